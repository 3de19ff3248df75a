/**
 * Regular expressions that mean the same to DuckDB (RE2) and to JavaScript: a common subset, refused beyond it, and
 * rewritten for JavaScript where the same sign means something else.
 */
const ESCAPED_CLASSES: Readonly<Record<string, string>> = { s: '\\t\\n\\f\\r ', d: '0-9', w: '0-9A-Za-z_' };
const PUNCTUATION = /^[\\^$.*+?()[\]{}|/\-"'#&~<>=!@%:;,` _]$/;

/** The pattern as JavaScript reads it with the flag `u`, or what it holds that the two engines do not share. */
export function javaScriptPattern(pattern: string): { readonly pattern: string } | { readonly problem: string } {
  const letters = [...pattern];
  let out = '';
  let inClass = false;
  for (let i = 0; i < letters.length; i++) {
    const letter = letters[i] ?? '';
    if (letter === '\\') {
      const next = letters[++i] ?? '';
      const lower = next.toLowerCase();
      const members = ESCAPED_CLASSES[lower];
      if (members !== undefined && next === lower) out += inClass ? members : `[${members}]`;
      else if (members !== undefined && !inClass) out += `[^${members}]`;
      else if (/^[ntrfv]$/.test(next)) out += `\\${next}`;
      else if (/^[bB]$/.test(next) && !inClass) out += `\\${next}`;
      else if (PUNCTUATION.test(next)) out += /^[\\^$.*+?()[\]{}|/-]$/.test(next) ? `\\${next === '-' && !inClass ? 'x2d' : next}` : next;
      else return { problem: `\\${next} is not shared by both engines` };
    } else if (inClass) {
      if (letter === '[') {
        if (letters[i + 1] === ':') return { problem: 'named classes such as [:alpha:] are not shared by both engines' };
        out += '\\[';
      } else {
        if (letter === ']') inClass = false;
        out += letter;
      }
    } else if (letter === '[') {
      inClass = true;
      out += letter;
      if (letters[i + 1] === '^') out += letters[++i] ?? '';
      if (letters[i + 1] === ']') {
        out += '\\]';
        i++;
      }
    } else if (letter === '.') out += '[^\\n]';
    else if (letter === '(' && letters[i + 1] === '?' && letters[i + 2] !== ':') return { problem: 'groups that begin with (? are not shared, but for (?:' };
    else out += letter;
  }
  try {
    new RegExp(out, 'u');
  } catch {
    return { problem: 'it is not a regular expression' };
  }
  return { pattern: out };
}

/** Replaces every match. `replacement` is plain text but for `\1` … `\9` (groups) and `\\`. */
export function compileReplace(jsPattern: string, replacement: string): (text: string) => string {
  const pieces = [...replacement.matchAll(/\\([0-9\\])|[^\\]+/g)].map((match) =>
    match[1] === undefined ? match[0] : match[1] === '\\' ? '\\' : Number(match[1]),
  );
  const expression = new RegExp(jsPattern, 'gu');
  return (text) => {
    let out = '';
    let copied = 0;
    expression.lastIndex = 0;
    for (let match = expression.exec(text); match !== null; match = expression.exec(text)) {
      const [whole] = match;
      // RE2 finds no empty match right behind the match before it.
      if (whole !== '' || match.index !== copied || match.index === 0) {
        out += text.slice(copied, match.index);
        for (const piece of pieces) out += typeof piece === 'string' ? piece : (match[piece] ?? '');
        copied = match.index + whole.length;
      }
      if (whole === '') expression.lastIndex = match.index + ((text.codePointAt(match.index) ?? 0) > 0xffff ? 2 : 1);
    }
    return out + text.slice(copied);
  };
}

export const isReplacement = (replacement: string): boolean => /^(?:\\[0-9\\]|[^\\])*$/.test(replacement);
