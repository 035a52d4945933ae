// The kernel's feature bits by name: include/uapi/linux/userfaultfd.h, man 2 ioctl_userfaultfd.

import { invalidType, invalidValue } from './errors.js';

/** In bit order: the first is bit 0. */
const FEATURES = [
  'PAGEFAULT_FLAG_WP',
  'EVENT_FORK',
  'EVENT_REMAP',
  'EVENT_REMOVE',
  'MISSING_HUGETLBFS',
  'MISSING_SHMEM',
  'EVENT_UNMAP',
  'SIGBUS',
  'THREAD_ID',
  'MINOR_HUGETLBFS',
  'MINOR_SHMEM',
  'EXACT_ADDRESS',
  'WP_HUGETLBFS_SHMEM',
  'WP_UNPOPULATED',
  'POISON',
  'WP_ASYNC',
  'MOVE',
] as const;

/** A `UFFD_FEATURE_…` constant without its prefix. */
export type Feature = (typeof FEATURES)[number];

/** In the order of their numbers; the gaps are numbers without a meaning. */
const IOCTLS = new Map<number, string>([
  [0x00, 'REGISTER'],
  [0x01, 'UNREGISTER'],
  [0x02, 'WAKE'],
  [0x03, 'COPY'],
  [0x04, 'ZEROPAGE'],
  [0x05, 'MOVE'],
  [0x06, 'WRITEPROTECT'],
  [0x07, 'CONTINUE'],
  [0x08, 'POISON'],
  [0x3f, 'API'],
]);

/** What `open()` asks for when the kernel has it and the caller says nothing. */
export const DEFAULT_OPTIONAL_FEATURES: readonly Feature[] = [
  'PAGEFAULT_FLAG_WP',
  'WP_UNPOPULATED',
  'WP_HUGETLBFS_SHMEM',
  'MISSING_HUGETLBFS',
  'MISSING_SHMEM',
  'MINOR_HUGETLBFS',
  'MINOR_SHMEM',
  'THREAD_ID',
  'EXACT_ADDRESS',
  'POISON',
  'MOVE',
];

/** The known names that are set; a bit this version has no name for is kept as `BIT_n`. */
export function featureNames(bits: bigint): (Feature | `BIT_${number}`)[] {
  return setBits(bits).map((bit): Feature | `BIT_${number}` => FEATURES[bit] ?? `BIT_${bit}`);
}

/** @internal */
export function knownFeatures(bits: bigint): Set<Feature> {
  return new Set(FEATURES.filter((_, bit) => ((bits >> BigInt(bit)) & 1n) === 1n));
}

/** The ioctls of a `uffdio_register.ioctls` or `uffdio_api.ioctls` mask. */
export function ioctlNames(bits: bigint): string[] {
  return setBits(bits).map((bit) => IOCTLS.get(bit) ?? `IOCTL_${bit}`);
}

/** @internal */
export function featureBits(name: string, features: unknown): bigint {
  if (features === undefined) return 0n;
  if (!Array.isArray(features)) throw invalidType(name, 'an array of feature names', features);
  let bits = 0n;
  for (const feature of features as unknown[]) {
    const bit = FEATURES.indexOf(feature as Feature);
    if (bit < 0) throw invalidValue(name, `may hold only ${FEATURES.join(', ')}`, feature);
    bits |= 1n << BigInt(bit);
  }
  return bits;
}

function setBits(bits: bigint): number[] {
  const found: number[] = [];
  for (let bit = 0; bit < 64; bit++) {
    if (((bits >> BigInt(bit)) & 1n) === 1n) found.push(bit);
  }
  return found;
}
