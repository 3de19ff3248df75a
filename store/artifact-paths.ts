import { MillraceError } from '../contracts/errors.ts';

/**
 * Paths of MLflow's artifacts. They are keys of a table and of nothing else; still nothing is taken that a client could
 * read as a way out of the folder it downloads to.
 */

/** What an index of the database can hold, with room to spare. */
const MOST_BYTES = 2_000;
const MOST_DECODINGS = 10;
/** Where the files of versions that runs of Millrace's registered are found; experiments are numbers, so no run's files lie there. */
const REGISTRY = 'registry';
const OF_HERE = /^(?:mlflow-artifacts:\/+|https?:\/\/[^/]+(?:\/[^?#]*?)?\/(?:ajax-)?api\/2\.0\/mlflow-artifacts\/artifacts\/)(?<path>[^?#]*)$/;

const refuse = (): MillraceError => new MillraceError('INVALID_REQUEST', 'Invalid path');

/** As a careless reader might decode it: again and again. */
function fullyDecoded(path: string): string {
  let now = path;
  for (let times = 0; times < MOST_DECODINGS; times++) {
    let next: string;
    try {
      next = decodeURIComponent(now);
    } catch {
      return now;
    }
    if (next === now) return now;
    now = next;
  }
  throw refuse();
}

/**
 * A path below the root, as it is kept: parts joined by one slash each; empty for the root itself.
 * @throws INVALID_REQUEST for one that is absolute, leads upwards, names a drive or holds a control character
 */
export function safePath(path: string): string {
  const decoded = fullyDecoded(path);
  const isUnsafe =
    /[\u0000-\u001f\u007f\\#]|^\/|^[a-zA-Z]:|^file:/.test(decoded) ||
    /[\uD800-\uDFFF]/u.test(decoded) ||
    decoded.split('/').some((part) => part === '..' || part === '.');
  if (isUnsafe || path.startsWith('/')) throw refuse();
  const kept = path
    .split('/')
    .filter((part) => part !== '')
    .join('/');
  if (Buffer.byteLength(kept) > MOST_BYTES) throw new MillraceError('INVALID_REQUEST', `Invalid path: it has more than ${MOST_BYTES} bytes`);
  return kept;
}

/** The folder in which a version that a run of Millrace's registered is found. */
export function registryFolder(model: string, version: number): string {
  return `${REGISTRY}/${encodeURIComponent(model)}/${version}`;
}

/** What a path in such a folder names; null for any other path. */
export function inRegistry(path: string): { readonly model: string; readonly version: number; readonly rest: string } | null {
  const [root, model, version, ...rest] = path.split('/');
  if (root !== REGISTRY || model === undefined || version === undefined || !/^[1-9]\d{0,8}$/.test(version)) return null;
  try {
    return { model: decodeURIComponent(model), version: Number(version), rest: rest.join('/') };
  } catch {
    return null;
  }
}

/** Whether clients may write there. */
export const isWritable = (path: string): boolean => path !== '' && path.split('/')[0] !== REGISTRY;

/** The folder of artifacts that an address of this server names; null for any other address. */
export function folderOf(uri: string): string | null {
  // with a host, `mlflow-artifacts://HOST/path` is another server's
  if (/^mlflow-artifacts:\/\/[^/]/.test(uri)) return null;
  const path = OF_HERE.exec(uri)?.groups?.['path'];
  if (path === undefined) return null;
  return safePath(path.replace(/^\/+/, ''));
}
