import { isUtf8 } from 'node:buffer';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createQuoteScan } from '../../../data/quote-scan.ts';
import { createSingleByteCensus, createUtf8Scan, encodingByHead } from '../../../data/text-encoding.ts';
import { isWholeZstd } from '../../../data/zstd-frames.ts';
import { zstdFrame } from '../../support/zstd-frame.ts';

/** The bytes in pieces of any size: what is found must not depend on where they are cut. */
const pieces = (bytes: Buffer, sizes: readonly number[]): Buffer[] => {
  const out: Buffer[] = [];
  for (let [at, turn] = [0, 0]; at < bytes.length; turn++) {
    const size = sizes[turn % sizes.length] ?? 1;
    out.push(bytes.subarray(at, at + size));
    at += size;
  }
  return out;
};
const sizes = fc.array(fc.integer({ min: 1, max: 7 }), { minLength: 1, maxLength: 5 });
const bytes = fc
  .array(fc.oneof(fc.constantFrom(0x22, 0x2c, 0x0a, 0x41, 0xc3, 0xa9, 0xe2, 0x82, 0xac), fc.integer({ min: 0, max: 255 })), { maxLength: 60 })
  .map((all) => Buffer.from(all));

describe('the scan for UTF-8', () => {
  it('finds the first NUL or the first byte that is not UTF-8, wherever chunks are cut', () => {
    fc.assert(
      fc.property(bytes, sizes, (all, cuts) => {
        const scan = createUtf8Scan();
        let found: { kind: string; offset: number } | undefined;
        for (const chunk of pieces(all, cuts)) found ??= scan.take(chunk);
        found ??= scan.end();
        // The longest prefix that is UTF-8 ends where the first bad byte stands.
        let valid = all.length;
        while (valid > 0 && !isUtf8(all.subarray(0, valid))) valid--;
        const nul = all.indexOf(0);
        if (nul !== -1 && nul < valid) expect(found).toEqual({ kind: 'nul', offset: nul });
        else if (valid < all.length) expect(found).toEqual({ kind: 'invalid', offset: valid });
        else expect(found).toBeUndefined();
      }),
      { numRuns: 2000 },
    );
  });

  it('takes any UTF-8 for what it is', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), sizes, (text, cuts) => {
        const all = Buffer.from(text.replaceAll('\0', ''));
        const scan = createUtf8Scan();
        expect([...pieces(all, cuts).map((chunk) => scan.take(chunk)), scan.end()].filter((found) => found !== undefined)).toEqual([]);
      }),
    );
  });
});

describe('an encoding', () => {
  it('is told from latin-1 texts, those of Windows, and files of two encodings', () => {
    const verdict = (all: Buffer, cut: number): string => {
      const census = createSingleByteCensus();
      for (const chunk of pieces(all, [cut])) census.take(chunk);
      return census.verdict();
    };
    for (const cut of [1, 2, 3, 100]) {
      expect(verdict(Buffer.from('Grüße aus Köln, señor\n', 'latin1'), cut)).toBe('latin-1');
      expect(verdict(Buffer.from('a \x93quote\x94 \x96 of Windows', 'latin1'), cut)).toBe('windows-1252');
      expect(verdict(Buffer.concat([Buffer.from('Köln '), Buffer.from('Köln', 'latin1')]), cut)).toBe('mixed');
    }
  });

  it('is told from the head: marks, and the zeros of UTF-16', () => {
    expect(encodingByHead(Buffer.from('\ufeffa'))).toBe('utf-8');
    expect(encodingByHead(Buffer.from('id,name\n', 'utf16le'))).toBe('utf-16le');
    expect(encodingByHead(Buffer.from('id,name\n', 'utf16le').swap16())).toBe('utf-16be');
    expect(encodingByHead(Buffer.from('id,名前\n1,東京\n', 'utf16le'))).toBe('utf-16le');
    expect(encodingByHead(Buffer.from('id,name\n'))).toBeUndefined();
    expect(encodingByHead(Buffer.from('a\0b,name\n'))).toBeUndefined();
    expect(encodingByHead(Buffer.alloc(0))).toBeUndefined();
  });
});

describe('the scan of quotes', () => {
  it('says where the field begins that has no end, as a reader sign by sign does', () => {
    const open = (text: string): number | undefined => {
      let opened: number | undefined;
      for (let at = 0; at < text.length; at++) {
        const sign = text.charAt(at);
        if (opened === undefined) {
          if (sign === '"' && (at === 0 || ',\n\r'.includes(text.charAt(at - 1)))) opened = at;
        } else if (sign === '"') {
          if (text.charAt(at + 1) === '"') at++;
          else opened = undefined;
        }
      }
      return opened;
    };
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom('"', '"', ',', '\n', '\r', 'x') }), sizes, (text, cuts) => {
        const scan = createQuoteScan(',');
        for (const chunk of pieces(Buffer.from(text), cuts)) scan.take(chunk);
        expect(scan.open()).toBe(open(text));
      }),
      { numRuns: 3000 },
    );
  });
});

describe('a zstd file', () => {
  it('is whole as it was written, and not when any of its end is missing', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'millrace-zstd-'));
    const path = join(folder, 'a.zst');
    // `a,b` as zstd 1.5 packs it, with the checksum that is its default; and a block that repeats one byte.
    const packed = Buffer.from('KLUv/QRYGQAAYSxiYMy7eA==', 'base64');
    const repeated = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 1, 0, 0x03, 0, 0x08, 0x78]);
    const skipped = Buffer.concat([Buffer.from([0x51, 0x2a, 0x4d, 0x18, 3, 0, 0, 0]), Buffer.from('any')]);
    const rows = Array.from({ length: 40_000 }, (_, at) => `${at},${at * 7919}`).join('\n');
    try {
      for (const whole of [zstdFrame(''), zstdFrame('a'), zstdFrame(rows), packed, Buffer.concat([packed, zstdFrame(rows)]), repeated, skipped]) {
        await writeFile(path, whole);
        expect(await isWholeZstd(path)).toBe(true);
        for (const missing of [1, 2, 3, 5, Math.floor(whole.length / 2)]) {
          if (missing >= whole.length) continue;
          await writeFile(path, whole.subarray(0, whole.length - missing));
          expect(await isWholeZstd(path), `${whole.length} less ${missing}`).toBe(false);
        }
      }
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
