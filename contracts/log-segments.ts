/** Servers write no more to a segment of a log that has so many bytes: it can be compacted before its hour is over. */
export const FULL_SEGMENT_BYTES = 256 * 1024 ** 2;
