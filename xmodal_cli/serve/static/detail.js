// The view of one photo: facts, captions, similar photos, and the actions that change the query.

import { request, viewOf } from "./api.js";
import { AttentionMap, captionItems } from "./attention.js";
import { Captioners } from "./captioners.js";

const element = (id) => document.getElementById(id);

export class Detail {
  constructor({ onQuery, onClose, onMove }) {
    this.dialog = element("detail");
    this.attention = new AttentionMap(element("large"), element("attention"));
    this.captioners = new Captioners({
      choice: element("choice"),
      select: element("captioner"),
      button: element("compare"),
      table: element("comparison"),
    });
    this.onQuery = onQuery;
    this.dialog.addEventListener("close", () => {
      this.captioners.clear();
      onClose();
    });
    element("close").addEventListener("click", () => this.dialog.close());
    element("more").addEventListener("click", () => this.query("like"));
    element("less").addEventListener("click", () => this.query("unlike"));
    element("copy").addEventListener("click", () => this.copy());
    element("show").addEventListener("click", () => this.fetch(`photos/${this.photo.id}/show`, {}, { method: "POST" }));
    element("describe").addEventListener("click", () => this.describe());
    element("compare").addEventListener("click", () => this.captioners.compare(this.photo.id, this.index));
    this.dialog.addEventListener("keydown", (event) => {
      if (event.target === element("captioner")) return; // the arrows choose a captioner
      if (event.key === "ArrowRight" || event.key === "ArrowLeft") {
        event.preventDefault();
        onMove(event.key === "ArrowRight" ? 1 : -1);
      }
    });
  }

  async open(photo, index) {
    this.photo = photo;
    this.index = index;
    element("name").textContent = photo.path.split(/[\\/]/).pop();
    element("large").alt = photo.path;
    element("large").src = viewOf(photo, "view", index);
    element("download").href = viewOf(photo, "file", index);
    element("captions").replaceChildren();
    this.captioners.clear();
    this.attention.hide();
    element("warnings").textContent = "";
    element("similar").replaceChildren();
    this.showFacts({ path: photo.path, taken: photo.taken, score: photo.score });
    if (!this.dialog.open) {
      this.dialog.showModal();
      this.captioners.load();
    }
    const facts = await this.fetch(`photos/${photo.id}`);
    if (facts && this.photo === photo) this.showFacts({ ...facts, score: photo.score });
    const similar = await this.fetch("similar", { id: photo.id, k: 9 });
    if (similar && this.photo === photo) this.showSimilar(similar.hits);
  }

  async fetch(path, values = {}, options = {}) {
    const params = new URLSearchParams(values);
    if (this.index) params.set("index", this.index);
    try {
      return await request(path, params, options);
    } catch (error) {
      this.showFacts({ error: `${error.message} ${error.hint || ""}` });
      return null;
    }
  }

  showFacts(facts) {
    const size = facts.width && facts.height ? `${facts.width} × ${facts.height}` : "";
    const bytes = facts.bytes ? `${(facts.bytes / 1e6).toFixed(1)} MB` : "";
    const rows = {
      Score: facts.score === null || facts.score === undefined ? "" : facts.score.toFixed(4),
      Caption: facts.caption,
      Taken: facts.taken ? facts.taken.replace("T", " ") : "",
      Size: [size, bytes].filter(Boolean).join(", "),
      Camera: facts.camera,
      Lens: facts.lens,
      Exposure: exposureOf(facts),
      Location: facts.has_location ? "the file has coordinates" : "",
      Path: facts.path,
      Error: facts.error,
    };
    const parts = [];
    for (const [name, value] of Object.entries(rows)) {
      if (!value) continue;
      const term = document.createElement("dt");
      const text = document.createElement("dd");
      term.textContent = name;
      text.textContent = value;
      parts.push(term, text);
    }
    element("facts").replaceChildren(...parts);
  }

  showSimilar(photos) {
    const others = photos.filter((photo) => photo.id !== this.photo.id).slice(0, 8);
    element("similar").replaceChildren(
      ...others.map((photo) => {
        const item = document.createElement("li");
        const button = document.createElement("button");
        const image = document.createElement("img");
        button.type = "button";
        image.alt = photo.path.split(/[\\/]/).pop();
        image.src = viewOf(photo, "thumbnail", this.index);
        button.append(image);
        button.addEventListener("click", () => this.open(photo, this.index));
        item.append(button);
        return item;
      }),
    );
  }

  async describe() {
    const photo = this.photo;
    const list = element("captions");
    list.textContent = "Captioning …";
    const found = await this.fetch("caption", { id: photo.id, ...this.captioners.parameters });
    if (this.photo !== photo) return;
    list.replaceChildren(...captionItems(found ? found.captions : [], this.attention));
    element("warnings").textContent = found ? found.warnings.join(" ") : "";
  }

  async copy() {
    try {
      await navigator.clipboard.writeText(this.photo.path);
      element("copy").textContent = "Copied";
    } catch {
      element("copy").textContent = "Cannot copy";
    }
    setTimeout(() => (element("copy").textContent = "Copy path"), 1500);
  }

  query(kind) {
    this.onQuery(kind, this.photo);
    this.dialog.close();
  }
}

function exposureOf(facts) {
  const parts = [
    facts.exposure && secondsOf(facts.exposure),
    facts.aperture && `f/${Number(facts.aperture.toFixed(1))}`,
    facts.iso && `ISO ${facts.iso}`,
    facts.focal_length && `${Math.round(facts.focal_length)} mm`,
  ];
  return parts.filter(Boolean).join(", ");
}

function secondsOf(exposure) {
  return exposure >= 0.4 ? `${Number(exposure.toFixed(1))} s` : `1/${Math.round(1 / exposure)} s`;
}
