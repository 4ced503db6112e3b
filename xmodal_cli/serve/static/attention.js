// Captions whose words show, on hover or focus, where in the photo the captioner looked.

export class AttentionMap {
  constructor(image, canvas) {
    this.image = image;
    this.canvas = canvas;
  }

  // A map (rows of weights in [0, 1]) over the whole photo: dark where the weight is low.
  show(map) {
    const side = map.length;
    const canvas = this.canvas;
    canvas.width = canvas.height = side;
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(side, side);
    map.flat().forEach((weight, n) => {
      pixels.data[4 * n + 3] = Math.round(210 * (1 - weight));
    });
    context.putImageData(pixels, 0, 0);
    canvas.style.width = `${this.image.clientWidth}px`;
    canvas.style.height = `${this.image.clientHeight}px`;
    canvas.hidden = false;
  }

  hide() {
    this.canvas.hidden = true;
  }
}

// A list item per caption; a word with a map is a button.
export function captionItems(captions, attention) {
  return captions.map((caption) => {
    const item = document.createElement("li");
    item.title = `score ${caption.score.toFixed(2)}`;
    if (caption.attention) item.append(...words(caption, attention));
    else item.textContent = caption.text;
    return item;
  });
}

function words(caption, attention) {
  return caption.words.flatMap((word, n) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "word";
    button.textContent = word;
    const show = () => attention.show(caption.attention[n]);
    const hide = () => attention.hide();
    button.addEventListener("mouseenter", show);
    button.addEventListener("focus", show);
    button.addEventListener("click", show);
    button.addEventListener("mouseleave", hide);
    button.addEventListener("blur", hide);
    return [button, " "];
  });
}
