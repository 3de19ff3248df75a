// Rounds as people do.
export const decimals = 3;
