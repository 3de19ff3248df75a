const MARK = /^\{\{secret:([A-Z][A-Z0-9_]{0,100})\}\}$/;

/**
 * Stands for a secret in what a pipeline gives to its own steps and sources: `fetchPrices(orders, { key: secret('CRM_KEY') })`.
 * The text that it gives is only its name: histories, records and fingerprints hold that. The step gets the value of the
 * variable `SECRET_CRM_KEY` of the worker that runs it, and wherever it shows up in its result, its errors or its log
 * stands `***`.
 *
 * @throws RangeError for a name that is not capital letters, digits and underscores
 */
export function secret(name: string): string {
  const mark = `{{secret:${name}}}`;
  if (!MARK.test(mark)) throw new RangeError(`secret('${name}'): a name is capital letters, digits and underscores, and begins with a letter.`);
  return mark;
}

/** The name in what `secret` gave; null for any other value. */
export function secretName(value: unknown): string | null {
  return typeof value === 'string' ? (MARK.exec(value)?.[1] ?? null) : null;
}
