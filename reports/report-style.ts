import { PLOT_COLOURS } from './report-plots.ts';

const LIGHT =
  '--ink:#1c2733;--soft:#5b6875;--line:#dde3e9;--paper:#f5f7f9;--card:#fff;--mark:#2f6f9f;--minus:#b5532d;--bad:#b3261e;--warn:#8a5a00;--good:#1c7a4a';
const DARK =
  '--ink:#e6ebf0;--soft:#9aa7b4;--line:#2f3a45;--paper:#11161b;--card:#1a2128;--mark:#6fb1de;--minus:#e59a72;--bad:#ff8a80;--warn:#f2c14e;--good:#7ad6a4';
/** Plots are drawn in the light colours; the page's style gives each its value of the theme. */
const PLOT_STYLE = Object.entries(PLOT_COLOURS)
  .map(([name, colour]) => `svg [fill="${colour}"]{fill:var(--${name})}svg [stroke="${colour}"]{stroke:var(--${name})}`)
  .join('');

/** The style of a report: light and dark, from 320 px up, and on paper. */
export const REPORT_STYLE = `:root{color-scheme:light dark;${LIGHT}}
@media(prefers-color-scheme:dark){:root{${DARK}}}
*{box-sizing:border-box}html{scroll-behavior:smooth}body{margin:0;background:var(--paper);color:var(--ink);font:1rem/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;-webkit-text-size-adjust:100%}
main{max-width:76rem;margin:0 auto;padding:1.75rem 1rem 4rem}h1{font-size:1.7rem;line-height:1.2;margin:0;letter-spacing:-.01em}h2{font-size:1.2rem;line-height:1.3;margin:2.75rem 0 .75rem}h3{font-size:1rem;line-height:1.35;margin:0}h4{font-size:.8125rem;font-weight:500;color:var(--soft);margin:1rem 0 0}
h1,h2,h3,td,th,p,li,dd{overflow-wrap:anywhere}p{margin:.5rem 0}a{color:var(--mark)}code{font:.8125rem/1.4 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
.soft{color:var(--soft);font-size:.8125rem;line-height:1.45;margin:.35rem 0}.bad{color:var(--bad)}.warn{color:var(--warn)}.good{color:var(--good)}.n{font-variant-numeric:tabular-nums}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.5rem,1fr));gap:1rem 1.25rem;margin:1.5rem 0 0}.facts div{border-left:3px solid var(--mark);padding-left:.75rem}dt{color:var(--soft);font-size:.8125rem}dd{margin:0;font-variant-numeric:tabular-nums}.facts dd{font-size:1.35rem;line-height:1.3}
nav{margin:1.75rem 0 0;padding:.75rem 0;border-block:1px solid var(--line);font-size:.9375rem}nav ul{list-style:none;margin:0;padding:0;display:flex;flex-wrap:wrap;gap:.35rem 1.25rem}nav a{text-decoration:none}nav a:hover{text-decoration:underline}nav .columns{margin-top:.5rem;font-size:.8125rem;gap:.3rem .9rem}nav .columns a{color:var(--soft)}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;max-width:56rem;font-size:.875rem;line-height:1.4}th{color:var(--soft);font-weight:500;font-size:.8125rem}th,td{text-align:left;padding:.45rem .75rem .45rem 0;border-bottom:1px solid var(--line);vertical-align:top}td.n,th.n{text-align:right;padding:.45rem 0 .45rem .75rem;white-space:nowrap;overflow-wrap:normal}td a{text-decoration:none}td p{margin:.2rem 0 0}
.state{white-space:nowrap;overflow-wrap:normal;font-weight:600;width:1%}.tag{display:inline-block;border:1px solid var(--line);border-radius:1rem;padding:0 .5rem;font-size:.75rem;line-height:1.35rem;color:var(--soft);white-space:nowrap}.samples{display:flex;flex-wrap:wrap;gap:.15rem .9rem}
.cards{display:grid;gap:1rem;grid-template-columns:repeat(auto-fill,minmax(min(100%,19rem),1fr));align-items:start}.card{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:1rem 1rem .85rem;min-width:0;scroll-margin-top:1rem}.wide{max-width:28rem}
.head{display:flex;justify-content:space-between;gap:1rem;align-items:baseline}
.card dl{display:grid;grid-template-columns:repeat(3,1fr);gap:.5rem .75rem;margin:.85rem 0 0;padding-top:.7rem;border-top:1px solid var(--line)}.card dt{font-size:.75rem;line-height:1.3}.card dd{font-size:.875rem;line-height:1.35}.card dl.two{grid-template-columns:repeat(2,1fr)}.card dl.five{grid-template-columns:repeat(5,auto);justify-content:space-between;border-top:0;padding-top:0;margin-top:.35rem;gap:.25rem}.five div{text-align:center}.five dd{white-space:nowrap;overflow-wrap:normal}
.version{color:var(--soft);font-weight:400}.facts small{display:block;font-size:.8125rem;color:var(--soft)}.fit{width:auto;min-width:min(100%,26rem)}.prose{max-width:46rem}dl.prose div{margin:.5rem 0}summary{cursor:pointer;color:var(--mark);font-size:.875rem;margin:.6rem 0}h2+h3,table+h3,.scroll+h3{margin-top:1.25rem}
.cards.two{grid-template-columns:repeat(auto-fill,minmax(min(100%,24rem),1fr))}.broad{grid-column:1/-1}.whole{margin-top:1rem}.broad-plot{min-width:40rem;max-width:50rem}.fit .state{width:auto}.pairs th{white-space:nowrap;padding-right:1.25rem;font-weight:400}.pairs td{overflow-wrap:anywhere}.card .pairs{width:100%;min-width:0}.card .pairs tr:last-child>*{border-bottom:0}.columns{max-width:none}.columns td:first-child{min-width:9rem}
.slices td{vertical-align:middle}.slices .mark{width:38%;min-width:5rem;padding:0 0 0 .6rem}.slices svg{margin:0}.confusion{width:auto;margin:.6rem 0;border-collapse:separate;border-spacing:2px}.confusion th,.confusion td{border:0;padding:.4rem .55rem;vertical-align:middle}.confusion th{overflow-wrap:normal}.confusion thead th{text-align:center}.confusion .corner{text-align:left;white-space:nowrap}.cell{text-align:center;font-variant-numeric:tabular-nums;border-radius:.3rem;background:color-mix(in srgb,var(--minus) var(--share),var(--paper));min-width:4.25rem}.cell.right{background:color-mix(in srgb,var(--mark) var(--share),var(--paper))}.cell small{display:block;opacity:.8}.cell.full{color:var(--card)}
svg{display:block;width:100%;height:auto;margin:.6rem 0 .1rem;overflow:visible}${PLOT_STYLE}
@media print{:root{color-scheme:light;${LIGHT};--paper:#fff}main{max-width:none;padding:0}nav{display:none}.card,tr,.facts{break-inside:avoid}h2,h3{break-after:avoid}.cards,.cards.two{grid-template-columns:1fr 1fr}.broad-plot{min-width:0}svg [fill],svg [stroke],.facts div,.cell{print-color-adjust:exact;-webkit-print-color-adjust:exact}}`;
