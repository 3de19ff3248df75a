/** `count` numbers in [0, 1) of the C standard's example generator, which Python computes to the same bits. */
export function sequence(count: number, seed: number): Float64Array {
  let state = BigInt(seed);
  return Float64Array.from({ length: count }, () => {
    state = (1_103_515_245n * state + 12_345n) % 2_147_483_648n;
    return Number(state) / 2_147_483_648;
  });
}
