/** The paths of a source as its record has them; none where it lies in no files. */
export function shownPaths(source: Readonly<Record<string, unknown>>): readonly string[] {
  const { path } = source;
  return (Array.isArray(path) ? path : [path]).filter((one): one is string => typeof one === 'string');
}

const GLOB = /[*?[{]/;

/** Whether a source that was read under `recorded` (a file, a folder or a glob) is, or holds, the file `asked`. */
export function fitsSource(recorded: string, asked: string): boolean {
  const plain = (path: string): string => path.replace(/^\.\//, '').replace(/\/+$/, '');
  const [shown, wanted] = [plain(recorded), plain(asked)];
  if (shown === wanted) return true;
  return GLOB.test(shown) ? globPattern(shown).test(wanted) : wanted.startsWith(`${shown}/`);
}

/** `**` is any number of folders, `*` and `?` stay within one, `[ab]` and `{a,b}` as a shell has them. */
function globPattern(glob: string): RegExp {
  let depth = 0;
  const pattern = glob.replace(/\*\*\/?|\*|\?|\[!?[^\]]+\]|[{},]|[.+^$()|\\\]]/g, (part) => {
    if (part === '**/') return '(?:[^/]+/)*';
    if (part === '**') return '.*';
    if (part === '*') return '[^/]*';
    if (part === '?') return '[^/]';
    if (part.startsWith('[') && part.length > 2) return part.replace(/^\[!/, '[^').replaceAll('\\', '\\\\');
    if (part === '{') depth++;
    if (part === '}') depth--;
    return part === '{' ? '(?:' : part === '}' ? ')' : part === ',' ? (depth > 0 ? '|' : ',') : `\\${part}`;
  });
  // braces that do not pair match nothing
  return depth === 0 ? new RegExp(`^${pattern}$`) : /^\b$/;
}
