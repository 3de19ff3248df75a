import { REPORT_STYLE } from './report-style.ts';
import { escaped } from './report-text.ts';

/** The figures on top of a page, large; texts as HTML. */
export const factsList = (facts: readonly (readonly [string, string])[]): string =>
  `<dl class="facts">${facts.map(([term, said]) => `<div><dt>${term}</dt><dd>${said}</dd></div>`).join('')}</dl>`;

/** A page that is whole in itself: no script, and nothing that is asked for from anywhere, which its policy says too. `title` is text, `body` HTML. */
export const pageFrame = (title: string, body: string): string => `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"><meta name="referrer" content="no-referrer"><title>${escaped(title)}</title><style>${REPORT_STYLE}</style></head>
<body><main>${body}
</main></body></html>
`;
