// The grid of photos: rows of equal height, moved through with the arrow keys.

import { viewOf } from "./api.js";

export class Grid {
  constructor(list, selection, onOpen) {
    this.list = list;
    this.selection = selection;
    this.onOpen = onOpen;
    this.photos = [];
    list.addEventListener("keydown", (event) => this.move(event));
  }

  show(photos, index, append) {
    if (!append) {
      this.photos = [];
      this.list.replaceChildren();
    }
    const first = this.photos.length;
    this.photos.push(...photos);
    this.list.append(...photos.map((photo, n) => this.tile(photo, first + n, index)));
  }

  tile(photo, position, index) {
    const item = document.createElement("li");
    const ratio = photo.width && photo.height ? Math.min(4, Math.max(0.4, photo.width / photo.height)) : 1.5;
    item.style.setProperty("--ratio", ratio.toFixed(4));
    const button = document.createElement("button");
    button.type = "button";
    const name = photo.path.split(/[\\/]/).pop();
    const image = document.createElement("img");
    image.loading = "lazy";
    image.decoding = "async";
    image.alt = name;
    image.src = viewOf(photo, "thumbnail", index);
    const label = document.createElement("span");
    const score = photo.score === null ? "" : `${photo.score.toFixed(3)} · `;
    label.textContent = `${score}${photo.path}`;
    label.title = photo.path;
    button.append(image);
    button.addEventListener("click", () => this.onOpen(position));
    item.append(button, label, this.checkbox(photo, name, index));
    return item;
  }

  checkbox(photo, name, index) {
    const box = document.createElement("input");
    box.type = "checkbox";
    box.tabIndex = -1; // the space bar selects the focused photo
    box.checked = this.selection.has(photo);
    box.setAttribute("aria-label", `Select ${name}`);
    box.addEventListener("change", () => this.selection.toggle(photo, index));
    return box;
  }

  clearSelection() {
    for (const box of this.list.querySelectorAll("input")) box.checked = false;
  }

  focus(position) {
    this.list.children[position]?.querySelector("button").focus();
  }

  move(event) {
    const tiles = [...this.list.children];
    const current = tiles.indexOf(event.target.closest("li"));
    if (current < 0) return;
    if (event.key === " " && event.target.matches("button")) {
      event.preventDefault();
      tiles[current].querySelector("input").click();
      return;
    }
    const next = this.neighbor(tiles, current, event.key);
    if (next === undefined) return;
    event.preventDefault();
    this.focus(next);
    tiles[next].scrollIntoView({ block: "nearest" });
  }

  neighbor(tiles, current, key) {
    if (key === "ArrowRight") return Math.min(current + 1, tiles.length - 1);
    if (key === "ArrowLeft") return Math.max(current - 1, 0);
    if (key === "Home") return 0;
    if (key === "End") return tiles.length - 1;
    if (key !== "ArrowDown" && key !== "ArrowUp") return undefined;
    const box = tiles[current].getBoundingClientRect();
    const down = key === "ArrowDown";
    let best = current;
    let bestDistance = Infinity;
    tiles.forEach((tile, n) => {
      const other = tile.getBoundingClientRect();
      const rows = down ? other.top - box.top : box.top - other.top;
      if (rows < 2) return;
      const distance = rows * 1000 + Math.abs(other.left + other.width / 2 - box.left - box.width / 2);
      if (distance < bestDistance) [best, bestDistance] = [n, distance];
    });
    return best;
  }
}
