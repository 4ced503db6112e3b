// The page of runs: while one of them is in training, the table and the curves are loaded again.

const INTERVAL = 4000; // milliseconds
const PARTS = ["list", "curves"];

async function update() {
  if (document.hidden) return;
  const response = await fetch(location.href).catch(() => null); // the server may come back
  if (!response?.ok) return;
  const found = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const id of PARTS) {
    const [shown, latest] = [document.getElementById(id), found.getElementById(id)];
    if (!latest || shown.innerHTML === latest.innerHTML) continue;
    const focused = shown.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    shown.replaceWith(latest);
    if (focused) [...latest.querySelectorAll("a")].find((link) => link.getAttribute("href") === focused)?.focus();
  }
}

setInterval(() => {
  if ("live" in document.getElementById("list").dataset) update();
}, INTERVAL);
