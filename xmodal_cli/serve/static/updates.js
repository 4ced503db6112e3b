// Shows the progress and the errors of `xmodal serve --watch`, and searches again after an update.

import { request } from "./api.js";

const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

export async function followUpdates(box, onUpdate) {
  let known = 0; // an update before the first response may be newer than the first search
  for (;;) {
    const found = await request("updates").catch(() => null);
    if (found && !found.watching) return;
    const watch = found?.watch;
    if (watch) {
      show(box, watch);
      if (watch.updates !== known) await onUpdate().catch(() => {});
      known = watch.updates;
    }
    await wait(document.hidden ? 10000 : watch?.task ? 500 : 2000);
  }
}

function show(box, { index, task, done, total, error, hint }) {
  const progress = total ? ` ${done} of ${total}` : "";
  const failed = error ? `The index ${index} could not be updated: ${error} ${hint}` : "";
  box.textContent = task ? `Updating the index ${index}: ${task}${progress}` : failed;
  box.hidden = !box.textContent;
}
