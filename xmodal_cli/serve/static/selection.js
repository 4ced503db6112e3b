// The selected photos of an index, over several searches, and their download as a list or a zip.

const MOST = 500; // photos in a zip
const element = (id) => document.getElementById(id);

export class Selection {
  constructor(onClear) {
    this.photos = new Map();
    this.index = "";
    element("list").addEventListener("click", () => this.downloadList());
    element("clear").addEventListener("click", () => {
      this.clear();
      onClear();
    });
  }

  has(photo) {
    return this.photos.has(photo.id);
  }

  toggle(photo, index) {
    this.index = index;
    if (!this.photos.delete(photo.id)) this.photos.set(photo.id, photo);
    this.show();
  }

  clear() {
    this.photos.clear();
    this.show();
  }

  show() {
    const count = this.photos.size;
    element("selection").hidden = count === 0;
    element("selected").textContent = count === 1 ? "1 photo selected" : `${count} photos selected`;
    element("zip").hidden = count > MOST;
    const params = new URLSearchParams([...this.photos.keys()].map((id) => ["id", id]));
    if (this.index) params.set("index", this.index);
    element("zip").href = `/api/archive?${params}`;
  }

  downloadList() {
    const lines = [...this.photos.values()].map((photo) => `${photo.path}\n`);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(lines, { type: "text/plain" }));
    link.download = "photos.txt";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }
}
