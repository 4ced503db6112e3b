"""The style of the demo's page: the reader's own fonts, light or dark as the system is, one column on a phone."""

STYLE = """
:root { color-scheme: light dark; --paper: #fbfaf7; --card: #fff; --ink: #20242a; --dim: #68707a; --line: #e4e1da;
  --right: #15803d; --wrong: #b42318; --c0: #2457c5; --c1: #c2570c; --code: #f1efe9 }
@media (prefers-color-scheme: dark) { :root { --paper: #131518; --card: #1b1e22; --ink: #e8e6e1; --dim: #9aa1aa;
  --line: #30343a; --right: #4ade80; --wrong: #f97066; --c0: #7da2f7; --c1: #f0a35e; --code: #22262b } }
* { box-sizing: border-box }
html { -webkit-text-size-adjust: 100% }
body { margin: 0 auto; max-width: 62rem; padding: 0 1.25rem 3rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; overflow-wrap: anywhere }
header { padding: 3.5rem 0 1rem }
h1, h2 { font-family: Charter, "Iowan Old Style", Palatino, Georgia, serif; font-weight: 600; line-height: 1.15;
  letter-spacing: -.01em; text-wrap: balance }
h1 { font-size: clamp(2.1rem, 7vw, 3.4rem); margin: 0 0 1rem }
h2 { font-size: 1.7rem; margin: 0 0 .6rem }
h3 { font-size: 1rem; margin: 2rem 0 .8rem }
header > p { font-size: 1.15rem; max-width: 40rem; margin: 0 }
section { border-top: 1px solid var(--line); margin-top: 3rem; padding-top: 2rem }
section > p { max-width: 42rem; margin: 0 0 1.2rem; color: var(--dim) }
dl { display: flex; flex-wrap: wrap; gap: 1.2rem 2.8rem; margin: 2rem 0 0 }
dl div { display: flex; flex-direction: column }
dd { margin: 0; font: 600 2.2rem/1.1 Charter, "Iowan Old Style", Palatino, Georgia, serif;
  font-variant-numeric: tabular-nums }
dt, .dim, small, footer { color: var(--dim); font-size: .85rem }
img { display: block; max-width: 100%; height: auto; border-radius: 6px }
figure { margin: 0 }
figcaption { font-size: .85rem; line-height: 1.4; margin-top: .5rem }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(10rem, 1fr)); gap: 1.2rem }
.grid img, .told > div:first-child img { width: 100% }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th { color: var(--dim); font-weight: 500; font-size: .85rem }
td, th { padding: .4rem 1.6rem .4rem 0; text-align: right; border-bottom: 1px solid var(--line) }
td:first-child, th:first-child { text-align: left }
td + td { white-space: nowrap }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: 1.5rem; margin-top: 1.6rem }
.chart svg { width: 100%; height: auto; display: block }
.chart figcaption { display: flex; flex-wrap: wrap; gap: .2rem 1rem; margin: 0 0 .3rem }
.key::before { content: ""; display: inline-block; width: .8em; height: .2em; margin-right: .4em;
  vertical-align: middle; background: currentColor; border-radius: 1px }
.c0 { color: var(--c0) } .c1 { color: var(--c1) }
polyline { stroke-linejoin: round; stroke-linecap: round }
.rule { color: var(--line) } .chart svg { color: var(--dim) }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 1rem; margin: 0 0 1rem }
.query { margin: 0 0 .8rem; font-weight: 500 }
.query .dim { font-weight: 400; margin-left: .4rem }
.mark { font-size: .8rem; border: 1px solid; border-radius: 1em; padding: .05rem .55rem; margin-left: .4rem;
  white-space: nowrap }
.right .mark { color: var(--right) } .wrong .mark { color: var(--wrong) }
.hits, .words { list-style: none; margin: 0; padding: 0; display: grid; gap: .7rem }
.hits { grid-template-columns: repeat(auto-fill, minmax(7rem, 1fr)) }
.hits img, .hits .blank { width: 100%; aspect-ratio: 1; object-fit: cover; outline: 1px solid var(--line) }
.hits .right img { outline: 3px solid var(--right); outline-offset: 2px }
.hits small { display: block; margin-top: .35rem; font-variant-numeric: tabular-nums }
.words { grid-template-columns: repeat(auto-fill, minmax(5.4rem, 1fr)) }
.words img { width: 100% } .words small { display: block; text-align: center; color: var(--ink); font-size: .8rem }
.told { display: grid; grid-template-columns: minmax(0, 12rem) minmax(0, 1fr); gap: 1.2rem; align-items: start }
.blank { display: grid; place-items: center; min-height: 5rem; color: var(--dim); background: var(--code);
  border-radius: 6px; font-size: .8rem; padding: .4rem }
details { margin-top: 1.2rem; color: var(--dim) } summary { cursor: pointer }
pre { background: var(--code); border-radius: 8px; padding: .7rem 1rem; margin: 0 0 .6rem; overflow-x: auto }
code { font: .92rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; white-space: pre-wrap }
footer { margin-top: 3rem }
@media (max-width: 34rem) { .told { grid-template-columns: 1fr } .hits { grid-template-columns: repeat(3, 1fr) }
  header { padding-top: 2rem } }
@media print { .card, figure { break-inside: avoid } }
"""
