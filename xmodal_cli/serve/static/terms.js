// The terms of a query with a sign or a filter (+snow, -person, name:beach), as chips that can be removed.
// They are found as retrieval/query_line.py does.

const FILTER = /^-?(?:name|caption):(?:"[^"]*"|\S+)/;
const QUOTED = /^"(?:\\["\\]|[^"])*"\S*/;
const SINGLE = /^'[^']*'(?=\s|\^|$)\S*/;
const PLAIN = /^(?:\\[\s"'\\]|\S)+/;

// [{ text, start, end }] of the terms in a line, in order; words without a sign are not among them.
export function termsOf(line) {
  const found = [];
  let start = 0;
  while (start < line.length) {
    const rest = line.slice(start);
    const space = rest.match(/^\s+/);
    if (space) {
      start += space[0].length;
      continue;
    }
    const filter = rest.match(FILTER);
    const sign = /^[+-]/.test(rest) ? 1 : 0;
    const body = rest.slice(sign);
    const word = body.match(QUOTED) || body.match(SINGLE) || body.match(PLAIN);
    const length = filter ? filter[0].length : sign + (word ? word[0].length : 0);
    if (filter || (sign && word)) found.push({ text: rest.slice(0, length), start, end: start + length });
    start += length;
  }
  return found;
}

export function withoutTerm(line, { start, end }) {
  return [line.slice(0, start).trimEnd(), line.slice(end).trimStart()].filter(Boolean).join(" ");
}

// Shows the terms of `line` in a list; `onRemove` gets the line without a term.
export function showTerms(list, line, onRemove) {
  const terms = termsOf(line);
  list.hidden = terms.length === 0;
  list.replaceChildren(
    ...terms.map((term) => {
      const item = document.createElement("li");
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = "×";
      button.setAttribute("aria-label", `Remove ${term.text}`);
      button.addEventListener("click", () => onRemove(withoutTerm(line, term)));
      item.append(term.text, button);
      return item;
    }),
  );
}
