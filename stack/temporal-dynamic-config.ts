import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../config/package-root.ts';

export const DYNAMIC_CONFIG_FILE: string = join(packageRoot, 'stack/temporal-dynamic-config.yaml');

/**
 * The server settings in the text of a dynamic config file, key to value. Takes only the shape that our own file has: a
 * key at the start of a line, then `- value:` with JSON.
 *
 * @throws Error on any other line.
 */
export function parseDynamicConfig(text: string): Readonly<Record<string, unknown>> {
  const values: Record<string, unknown> = {};
  let key: string | undefined;
  for (const [index, line] of text.split('\n').entries()) {
    if (line.trim() === '' || line.startsWith('#')) continue;
    const name = /^([A-Za-z][\w.-]*):$/.exec(line)?.[1];
    const value = /^ {2}- value: (.+)$/.exec(line)?.[1];
    if (name !== undefined && key === undefined) key = name;
    else if (value !== undefined && key !== undefined) {
      values[key] = JSON.parse(value);
      key = undefined;
    } else throw new Error(`temporal-dynamic-config.yaml, line ${index + 1}: not a key or its value: ${line}`);
  }
  return values;
}

/** The settings as options of `temporal server start-dev`. */
export function dynamicConfigArguments(): readonly string[] {
  const values = parseDynamicConfig(readFileSync(DYNAMIC_CONFIG_FILE, 'utf8'));
  return Object.entries(values).flatMap(([key, value]) => ['--dynamic-config-value', `${key}=${JSON.stringify(value)}`]);
}
