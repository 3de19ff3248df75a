import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { DYNAMIC_CONFIG_FILE, parseDynamicConfig } from '../../../stack/temporal-dynamic-config.ts';

describe("the dynamic config of Temporal's server", () => {
  it('is read as a YAML parser reads it', () => {
    const text = readFileSync(DYNAMIC_CONFIG_FILE, 'utf8');
    const yaml = parse(text) as Record<string, { value: unknown }[]>;
    expect(parseDynamicConfig(text)).toEqual(Object.fromEntries(Object.entries(yaml).map(([key, values]) => [key, values[0]?.value])));
  });

  it.each(['key: 3', 'key:\n  value: 3', 'a:\nb:\n', '  - value: 3', 'a:\n  - value: 1\n  - value: 2', 'a:\n  - value: 1\n    constraints: {}'])(
    'is not guessed at when it has another shape: %j',
    (text) => {
      expect(() => parseDynamicConfig(text)).toThrow(/line \d/);
    },
  );
});
