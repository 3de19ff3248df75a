/**
 * The text of a key, the same for a dataset's row and for a request. Within a part these characters are written behind a
 * backslash, so that no two keys share a text.
 */
export const KEY_ESCAPES = [
  ['\\', '\\'],
  ['\u001f', 's'],
  ['\u0000', '0'],
] as const;

/** Of values as `coerceValue` gives them; undefined where one is not known. */
export function keyText(values: readonly (string | number | boolean | null)[]): string | undefined {
  const parts: string[] = [];
  for (const value of values) {
    if (value === null) return undefined;
    parts.push(typeof value === 'string' ? KEY_ESCAPES.reduce((text, [character, code]) => text.replaceAll(character, `\\${code}`), value) : String(value));
  }
  return parts.join('\u001f');
}
