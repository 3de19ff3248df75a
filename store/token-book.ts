import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { type Identity, ROLES, tokenOfHeader } from '../contracts/identity.ts';
import { hashToken, type LiveToken, type TokensStore } from './tokens.ts';

/**
 * The tokens that are good, in memory: what a request shows is looked up without asking the store.
 *
 * Invariants:
 * 1. A token that was revoked is refused after `everyMs` at the latest, while the store answers.
 * 2. While the store does not answer, what was known last stands; a server that starts then takes what it kept on disk.
 * 3. Before anything is known, everything is refused, unless this machine alone can ask.
 */
export interface TokenBook {
  /** Whether nobody has to show a token. */
  isOpen(): boolean;
  /** Who an `Authorization` header stands for; null for nobody. */
  find(header: string | undefined): Identity | null;
  /** As `find`, after a look at the store for a token that is not known yet. */
  findFresh(header: string | undefined): Promise<Identity | null>;
  /** The first look: at the store, else at what was kept. */
  start(): Promise<void>;
  stop(): void;
}

export interface TokenBookDeps {
  readonly tokens: Pick<TokensStore, 'live' | 'provisionAdmin'>;
  /** Default 2,000. */
  readonly everyMs?: number;
  /** Where what is known is kept for a start without the store. Left out: nowhere. */
  readonly keepAt?: string;
  /** MILLRACE_ADMIN_TOKEN: it is good before the store answers, and is made an admin's token there. */
  readonly adminToken?: string | undefined;
  /** Whether only this machine can ask: then nothing is refused before anything is known. */
  readonly loopback: boolean;
  readonly log?: (level: 'info' | 'warn', message: string, details: Readonly<Record<string, unknown>>) => void;
}

const EVERY_MS = 2_000;
/** An unknown token makes the store be asked, at most so often. */
const ASK_AGAIN_MS = 200;

const KeptSchema = z.object({
  format: z.literal('millrace-tokens/1'),
  needed: z.boolean(),
  tokens: z.array(
    z.object({
      hash: z.string(),
      identity: z.object({ who: z.string(), tokenId: z.string().nullable(), roles: z.array(z.enum(ROLES)), projects: z.array(z.string()) }),
      expiresAt: z.string().nullable(),
    }),
  ),
});

export function createTokenBook({ tokens, everyMs = EVERY_MS, keepAt, adminToken, loopback, log }: TokenBookDeps): TokenBook {
  let needed = !loopback || adminToken !== undefined;
  let provisioned = adminToken === undefined;
  let known = new Map<string, LiveToken>(
    adminToken === undefined
      ? []
      : [
          [
            hashToken(adminToken),
            { hash: hashToken(adminToken), identity: { who: 'admin', tokenId: 'admin', roles: ['admin'], projects: ['*'] }, expiresAt: null },
          ],
        ],
  );
  let text = '';
  let askedMs = 0;
  let asking: Promise<boolean> | undefined;
  let again: Promise<boolean> | undefined;
  let timer: NodeJS.Timeout | undefined;

  const take = (live: { readonly needed: boolean; readonly tokens: readonly LiveToken[] }): void => {
    // beyond this machine a token is always needed
    needed = live.needed || !loopback;
    known = new Map(live.tokens.map((token) => [token.hash, token]));
  };
  const keep = async (): Promise<void> => {
    if (keepAt === undefined) return;
    const now = JSON.stringify({ format: 'millrace-tokens/1', needed, tokens: [...known.values()] });
    if (now === text) return;
    await mkdir(dirname(keepAt), { recursive: true });
    const temporary = `${keepAt}.${String(process.pid)}.tmp`;
    await writeFile(temporary, now, { mode: 0o600 });
    await rename(temporary, keepAt);
    text = now;
  };
  /** False when the store did not answer. */
  const ask = async (): Promise<boolean> => {
    askedMs = Date.now();
    try {
      if (!provisioned && adminToken !== undefined) await tokens.provisionAdmin(adminToken);
      provisioned = true;
      take(await tokens.live());
    } catch {
      return false;
    }
    await keep().catch((error: unknown) => log?.('warn', 'the known tokens cannot be kept', { error: String(error) }));
    return true;
  };
  const refresh = (): Promise<boolean> => (asking ??= ask().finally(() => (asking = undefined)));

  const find = (header: string | undefined): Identity | null => {
    const token = tokenOfHeader(header);
    const found = token === null ? undefined : known.get(hashToken(token));
    return found === undefined || (found.expiresAt !== null && Date.parse(found.expiresAt) <= Date.now()) ? null : found.identity;
  };

  return {
    isOpen: () => !needed,
    find,
    async findFresh(header) {
      const found = find(header);
      if (found !== null || tokenOfHeader(header) === null) return found;
      // all that wait are answered by one look
      again ??= sleep(Math.max(0, askedMs + ASK_AGAIN_MS - Date.now())).then(() => {
        again = undefined;
        return refresh();
      });
      await again;
      return find(header);
    },
    async start() {
      if (!(await refresh()) && keepAt !== undefined) {
        const kept = await readFile(keepAt, 'utf8').catch(() => '');
        if (kept !== '') {
          try {
            take(KeptSchema.parse(JSON.parse(kept)));
          } catch {
            needed = true;
            log?.('warn', 'the kept tokens cannot be read: everything is refused until the store answers', { path: keepAt });
          }
        }
      }
      timer = setInterval(() => void refresh(), everyMs).unref();
      if (!needed) log?.('info', 'no token is configured: everyone on this machine may do everything', {});
    },
    stop() {
      clearInterval(timer);
    },
  };
}
