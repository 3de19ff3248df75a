import type { LabelValue } from '../contracts/labels.ts';

const MOST_CHARACTERS = 20_000;

/** A prediction's inputs as a person is shown them. */
export function shownInputs(inputs: Readonly<Record<string, unknown>>): Record<string, LabelValue | null> {
  const shown = (value: unknown): LabelValue | null => {
    if (value === null || value === undefined) return null;
    if (typeof value === 'number' || typeof value === 'boolean') return value;
    return (typeof value === 'string' ? value : JSON.stringify(value)).slice(0, MOST_CHARACTERS);
  };
  return Object.fromEntries(Object.entries(inputs).map(([name, value]) => [name, shown(value)]));
}
