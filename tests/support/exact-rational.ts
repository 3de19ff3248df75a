/** Sums of doubles as integers: 2^-1074 divides every one of them. Slow, and beyond doubt. */
const UNIT_BITS = 1074n;

function scaledInteger(value: number): bigint {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, value);
  const bits = view.getBigUint64(0);
  const exponent = (bits >> 52n) & 0x7ffn;
  const fraction = bits & 0xfffffffffffffn;
  const magnitude = exponent === 0n ? fraction : (fraction | 0x10000000000000n) << (exponent - 1n);
  return value < 0 ? -magnitude : magnitude;
}

/** The exact sum of finite doubles, rounded to the nearest double, ties to even. */
export function exactSumOf(values: readonly number[]): number {
  const sum = values.reduce((total, value) => total + scaledInteger(value), 0n);
  const magnitude = sum < 0n ? -sum : sum;
  const spare = BigInt(Math.max(0, magnitude.toString(2).length - 64));
  const kept = magnitude >> spare;
  // A bit that stands for all that was cut off decides ties, as the cut off bits would.
  const sticky = kept << spare === magnitude ? kept : kept | 1n;
  const steps = Number(spare - UNIT_BITS);
  const rounded = Number(sticky);
  const scaled =
    steps >= 0 ? rounded * 2 ** Math.min(steps, 900) * 2 ** Math.max(0, steps - 900) : rounded * 2 ** Math.ceil(steps / 2) * 2 ** Math.floor(steps / 2);
  return sum < 0n ? -scaled : scaled;
}
