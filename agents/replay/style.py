"""Style and script of the page. Colors of credit are classes (n10 .. z .. p10, u), so no element needs a style of its own."""

from __future__ import annotations

from agents.replay.scale import DARK, LIGHT, STEPS, Palette


def _shades(palette: Palette) -> str:
    names = {at: f"p{at}" if at > 0 else f"n{-at}" if at < 0 else "z" for at in range(-STEPS, STEPS + 1)}
    return "".join(f".{name}{{--g:{palette.ground(at)};--i:{palette.ink(at)}}}" for at, name in names.items())


STYLE = (
    """
:root{color-scheme:light dark;--page:#f6f6f3;--card:#fff;--ink:#1b1d21;--soft:#5d636c;--line:#e2e2dc;--link:#1d5fa8;
  --good:#0f6b4f;--bad:#8a3b12;--warn:#7a5b00;--warnbg:#fff4d1;--chip:#f1f1ec;--flash:#1d5fa8;
  --mono:ui-monospace,"SF Mono","Cascadia Code",Menlo,Consolas,"DejaVu Sans Mono",monospace}
@media(prefers-color-scheme:dark){
:root{--page:#15171b;--card:#1d2026;--ink:#e6e7ea;--soft:#9aa1ac;--line:#31353d;--link:#8cc2ff;--good:#6fd3ae;--bad:#ffb07a;
  --warn:#f0cf72;--warnbg:#3a331c;--chip:#282c33;--flash:#8cc2ff}}
"""
    + _shades(LIGHT)
    + "@media(prefers-color-scheme:dark){"
    + _shades(DARK)
    + "}"
    + """
.u{--g:transparent;--i:var(--soft)}
*{box-sizing:border-box}
html{scroll-padding-top:64px}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
a{color:var(--link);text-decoration:none}
a:hover{text-decoration:underline}
:focus-visible{outline:2px solid var(--flash);outline-offset:2px}
h1{font-size:26px;line-height:1.25;margin:2px 0 18px;letter-spacing:-.01em}
h1::first-letter,h2::first-letter{text-transform:uppercase}
h2{font-size:20px;margin:0}
h4{font-size:12px;margin:0 0 6px;color:var(--soft);font-weight:600}
.top{position:sticky;top:0;z-index:2;display:flex;flex-wrap:wrap;gap:4px 28px;align-items:center;padding:9px 28px;
  background:var(--card);border-bottom:1px solid var(--line);font-size:13px}
.top p{margin:0}
.top p:first-child{margin-right:auto}
.top p:first-child span{color:var(--soft);margin-left:10px}
.legend{display:flex;align-items:center;gap:8px}
.legend b{font:600 12px var(--mono)}
.legend span:first-child,.keys,.choice{color:var(--soft)}
.scale{display:flex;border-radius:3px;overflow:hidden}
.swatch{width:11px;height:15px;background:var(--g)}
kbd{font:11px var(--mono);border:1px solid var(--line);border-bottom-width:2px;border-radius:4px;padding:1px 5px;
  margin-right:2px}
main{max-width:1240px;margin:0 auto;padding:26px 28px 40vh}
.about{color:var(--soft);font-size:13px;margin:0}
.note{background:var(--warnbg);color:var(--warn);border-radius:6px;padding:8px 12px;margin:0 0 14px}
.group,.episode{display:none}
.group:has(:target),.episode:target,.episode:has(:target){display:block}
main:not(:has(:target)) .shown{display:block}
main:has(.group :target) #index{display:none}
.listed{margin:0 0 34px}
.listed h2{margin-top:10px}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:13px}
th{font-weight:500;color:var(--soft);text-align:left}
th,td{padding:3px 14px 3px 0;vertical-align:middle}
.num{text-align:right;font:12.5px var(--mono);white-space:nowrap}
.overview{margin:10px 0 0}
.overview th{font-size:12px;border-bottom:1px solid var(--line)}
.overview th:nth-child(n+3):nth-child(-n+6){text-align:right}
.overview td:first-child,.overview th:first-child{padding-left:10px}
.overview td:first-child a{font:600 13px var(--mono);display:inline-block;min-width:26px}
tr[aria-current]{background:var(--card);box-shadow:inset 3px 0 var(--flash)}
.outcome,.mark{display:inline-block;font-size:12px;font-weight:600;border:1px solid currentColor;border-radius:99px;
  padding:0 8px;white-space:nowrap}
h2 .outcome{vertical-align:3px;margin-left:4px}
.won{color:var(--good)}
.won::before{content:"✓ "}
.lost,.ended{color:var(--bad)}
.outcome.lost::before{content:"✗ "}
.fault,.invalid,.cut-off{color:var(--warn)}
.fault::before,.invalid::before{content:"✕ "}
.paid{color:var(--good)}
.paid::before{content:"★ "}
.shaping{color:var(--link)}
.shaping::before{content:"◆ "}
.reached{color:var(--soft)}
.reached::before{content:"⚑ "}
svg{display:block}
.fill{fill:var(--g)}
.u.fill{stroke:var(--soft);stroke-dasharray:2 2}
.axis{stroke:var(--soft);stroke-width:1;opacity:.6}
.hit{fill:transparent}
.strip a:hover rect,.timeline a:hover .fill{stroke:var(--ink);stroke-width:1.5}
.timeline a:hover .hit{fill:var(--chip)}
.error{stroke:var(--ink);stroke-width:1.5}
.dot{fill:var(--ink);stroke:var(--card);stroke-width:1.5}
.timeline g{pointer-events:none}
.label{font:11px var(--mono);fill:var(--soft);text-anchor:middle}
.end{text-anchor:end}
.label.true{text-anchor:start;fill:var(--ink)}
.signs{font-size:12px;fill:var(--ink);text-anchor:middle}
.name{font:11px var(--mono);fill:var(--i);text-anchor:middle;pointer-events:none}
.value{fill:none;stroke:var(--ink);stroke-width:1.5}
.episode{margin-top:30px;border-top:1px solid var(--line);padding-top:22px}
.episode nav{float:right;display:flex;gap:22px}
.segments{margin:0 0 22px 10px}
.segments thead th{font-size:12px;border-bottom:1px solid var(--line)}
.segments tbody th{color:var(--ink);font:12.5px var(--mono)}
.segments tbody .rest{color:var(--soft)}
.segments thead th:nth-child(n+2){text-align:right}
figure{margin:14px 0 22px;background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 16px 10px}
figcaption{color:var(--soft);font-size:12px;white-space:pre-wrap;margin-top:6px}
.steps{list-style:none;margin:0;padding:0}
.step{display:grid;grid-template-columns:88px minmax(0,1fr);background:var(--card);border:1px solid var(--line);
  border-left:6px solid var(--g);border-radius:10px;margin:0 0 14px}
.step.z,.step.u{border-left-color:var(--line)}
.step:target{border-color:var(--flash);box-shadow:0 0 0 2px var(--flash)}
.step>div{padding:14px 18px 12px 4px;min-width:0}
.score{align-self:start;margin:14px 12px 0 12px;border-radius:7px;background:var(--g);color:var(--i);padding:5px 4px 6px;
  text-align:center;text-decoration:none!important}
.u>.score{box-shadow:inset 0 0 0 1px var(--line)}
.score b{display:block;font-size:12px;font-weight:500}
.score b::before{content:"step "}
.score span{font:600 14px var(--mono)}
.state{display:flex;flex-wrap:wrap;gap:10px 20px;align-items:flex-start}
.state .seen{flex:1 1 360px;min-width:0}
.frame{margin:0;padding:8px 12px;max-width:100%;overflow-x:auto;background:var(--chip);border-radius:6px;
  font:13px/1.2 var(--mono)}
.after{background:var(--card);border:1px dashed var(--line);border-radius:10px;padding:12px 18px 14px 20px}
pre.seen{margin:0;white-space:pre-wrap;overflow-wrap:anywhere;color:var(--soft);font:13px/1.5 var(--mono)}
details.seen summary{cursor:pointer;color:var(--soft);font:13px/1.5 var(--mono);list-style:none;overflow-wrap:anywhere}
details.seen summary i{font:12px system-ui,sans-serif;color:var(--link);margin-left:8px;white-space:nowrap}
details.seen summary i::after{content:", unfold"}
details.seen[open] summary i::after{content:", fold"}
details.seen[open] summary span{display:none}
details.seen[open] summary i{margin-left:0}
.action{margin:12px 0 8px;display:flex;flex-wrap:wrap;gap:6px 8px;align-items:center}
.action code{font:600 15px var(--mono);white-space:pre-wrap;overflow-wrap:anywhere}
.action code::before{content:"> ";color:var(--soft)}
code{font:12.5px var(--mono)}
.tokens{display:flex;flex-wrap:wrap;gap:5px;align-items:flex-start;margin:0 0 12px}
.t{background:var(--g);color:var(--i);border-radius:5px;padding:3px 8px 2px;font:13px/1.35 var(--mono);text-align:center;
  white-space:pre-wrap;overflow-wrap:anywhere;cursor:default}
.u.t{box-shadow:inset 0 0 0 1px var(--line)}
.t i{display:block;font:10.5px/1.3 var(--mono);opacity:.85}
.prose{display:block;line-height:1.9}
.prose .t{padding:2px 0;border-radius:0;text-align:left}
.prose .t i{display:none}
body:has(#numbers:checked) .prose .t i{display:inline;margin:0 2px 0 3px;font-size:9.5px;vertical-align:super}
.caption{color:var(--soft);font-size:11.5px;align-self:center;margin-left:4px}
.branches{color:var(--soft);font-size:12px;margin:8px 0 0}
.because{display:grid;grid-template-columns:300px minmax(0,1fr);gap:14px 40px;border-top:1px solid var(--line);
  padding-top:10px}
.parts th{padding-right:12px;font-size:13px}
.parts td{padding-right:10px}
.total th{color:var(--ink);font-weight:600}
.total .num{font-weight:600}
.total>*{border-top:1px solid var(--line)}
.truth th{color:var(--ink)}
.facts{margin:6px 0 0;font-size:13px;color:var(--soft);display:flex;flex-wrap:wrap;gap:2px 16px}
.facts b{color:var(--ink);font:12.5px var(--mono)}
.peers{overflow-x:auto}
.peers th{font-size:12px}
.peers th:nth-child(2),.peers th:nth-child(3){text-align:right}
.peers td{vertical-align:top;padding-top:2px;padding-bottom:2px}
.peers svg{margin-top:5px}
.peers td:first-child{min-width:180px}
.peers code{overflow-wrap:anywhere}
.this code{font-weight:700}
.places{font:12px var(--mono);line-height:1.6}
.places>*{display:inline-block;margin-right:8px}
.peers summary{font-size:12px;color:var(--link);cursor:pointer}
@media(max-width:800px){
h1{font-size:21px}
.top{padding:8px 14px}
.swatch{width:7px}
main{padding:18px 14px 40vh}
.because{grid-template-columns:1fr}
.step{grid-template-columns:80px minmax(0,1fr)}
.score{margin:14px 8px 0}
.keys{display:none}}
"""
)

SCRIPT = """
"use strict";
const shown = () => [...document.querySelectorAll(".episode")].find(one => one.offsetParent !== null);
const mark = () => {
  const id = shown()?.id;
  for (const row of document.querySelectorAll("tr[data-episode]"))
    row.toggleAttribute("aria-current", row.dataset.episode === id);
};
const keys = {ArrowLeft: "prev", ArrowRight: "next"};
addEventListener("hashchange", mark);
addEventListener("keydown", event => {
  const episode = shown();
  if (!episode || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (keys[event.key]) {
    const link = episode.querySelector(`a[rel=${keys[event.key]}]`);
    if (link) { event.preventDefault(); location.hash = link.hash; }
  } else if (event.key === "j" || event.key === "k") {
    const steps = [...episode.querySelectorAll(".step")];
    const now = steps.findIndex(step => step.matches(":target"));
    const next = steps[Math.max(0, Math.min(steps.length - 1, event.key === "j" ? now + 1 : now - 1))];
    if (next) location.hash = next.id;
  }
});
mark();
"""
