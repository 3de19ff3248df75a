/** Text as HTML shows it, never as markup: names and values may hold anything. Fits attributes too. */
export const escaped = (text: string): string => text.replace(/[&<>"']/g, (mark) => `&#${String(mark.charCodeAt(0))};`);

export const count = (value: number): string => value.toLocaleString('en-US');

/** Whole numbers below a billion whole, others to five digits; large and tiny ones as powers of ten. With a true minus sign. */
export function figure(value: number | null | undefined): string {
  if (value === null || value === undefined) return '–';
  const size = Math.abs(value);
  const text =
    size !== 0 && (size >= 1e12 || size < 1e-4)
      ? value
          .toExponential(3)
          .replace(/\.?0+e/, 'e')
          .replace(/e\+?(-?\d+)/, ' × 10^$1')
      : value.toLocaleString('en-US', Number.isInteger(value) && size < 1e9 ? {} : { maximumSignificantDigits: 5 });
  return text.replaceAll('-', '−');
}

/** A figure in few characters: 117.8K, 1.485M. */
export const shortFigure = (value: number): string =>
  Math.abs(value) >= 1e12 || (value !== 0 && Math.abs(value) < 1e-4)
    ? value.toExponential(1).replace('e+', 'e').replaceAll('-', '−')
    : value.toLocaleString('en-US', { notation: 'compact', maximumSignificantDigits: 4 }).replaceAll('-', '−');

/** Per cent, to two digits at least: a thousandth of a per cent is not nothing. */
export function share(part: number, whole: number): string {
  if (whole === 0) return '–';
  const percent = (part / whole) * 100;
  if (percent > 0 && percent < 0.01) return '< 0.01 %';
  if (percent > 99.99 && percent < 100) return '> 99.99 %';
  return `${percent.toLocaleString('en-US', { maximumFractionDigits: percent < 10 ? 2 : 1 })} %`;
}

/** A UTC ISO instant without what says nothing. */
export const timeText = (iso: string | null): string => (iso === null ? '–' : iso.replace('T00:00:00.000Z', '').replace(/^(.{10})T(.{5}).*Z$/, '$1 $2 UTC'));
