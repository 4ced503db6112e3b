// The captioners of the machine: a choice for the next captions, and the captions of one photo by all of them.

import { request } from "./api.js";

export class Captioners {
  constructor({ choice, select, button, table }) {
    Object.assign(this, { choice, select, button, table, listed: [], running: null });
  }

  // Fill the choice; with one captioner there is nothing to choose or to compare.
  async load() {
    try {
      this.listed = (await request("captioners")).captioners;
    } catch {
      this.listed = []; // the next caption shows the error
    }
    const before = this.select.value;
    this.select.replaceChildren(...this.listed.map((one) => new Option(one.default ? `${one.name} (default)` : one.name, one.name)));
    if (this.listed.some((one) => one.name === before)) this.select.value = before;
    this.choice.hidden = this.button.hidden = this.listed.length < 2;
  }

  // The parameter of the API; none for the default captioner.
  get parameters() {
    return this.select.selectedIndex > 0 ? { model: this.select.value } : {};
  }

  clear() {
    this.running?.abort();
    this.table.hidden = true;
    this.table.tBodies[0].replaceChildren();
  }

  // Caption a photo by one captioner after the other: the server has at most two in memory.
  async compare(id, index) {
    this.clear();
    const controller = new AbortController();
    this.running = controller;
    const rows = this.listed.map((one) => [one.name, this.addRow(one)]);
    this.table.hidden = false;
    for (const [model, cell] of rows) {
      cell.textContent = "Captioning …";
      const params = new URLSearchParams({ id, model, ...(index ? { index } : {}) });
      try {
        const found = await request("caption", params, { signal: controller.signal });
        show(cell, found.captions[0]?.text || "no caption", found.warnings.join(" "));
      } catch (error) {
        if (error.name === "AbortError") return;
        cell.className = "problem";
        show(cell, error.message, error.hint);
      }
    }
  }

  addRow({ name, data, cider }) {
    const row = this.table.tBodies[0].insertRow();
    const header = document.createElement("th");
    header.scope = "row";
    show(header, name, [data && `trained on ${data}`, cider && `val CIDEr ${cider.toFixed(3)}`].filter(Boolean).join(", "));
    row.append(header);
    return row.insertCell();
  }
}

function show(cell, text, note) {
  const small = document.createElement("small");
  small.textContent = note || "";
  cell.replaceChildren(text, small);
}
