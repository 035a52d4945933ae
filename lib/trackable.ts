// What trackers, snapshots and the helpers for tests are given.

import { binding, type NativeSource } from './binding.js';
import { invalidValue } from './errors.js';
import { regionInternals, toRegion, type Region } from './region.js';

/** @internal The regions behind what a tracker or a snapshot was given. */
export function toRegions(memory: unknown): Region[] {
  if (!Array.isArray(memory)) return [toRegion('memory', memory)];
  if (memory.length === 0) throw invalidValue('memory', 'must not be an empty array', memory);
  // Not map(), which leaves out the holes of a sparse array.
  return Array.from(memory as unknown[], (each, i) => toRegion(`memory[${i}]`, each));
}

/** @internal Whether no other data lies in its first and last page. */
export function isPageExact(region: Region): boolean {
  if (region.kind !== 'foreign') return true;
  const { bytes, pageSize } = region;
  return binding().addressInPage(bytes, pageSize) === 0 && bytes.byteLength % pageSize === 0;
}

/** @internal The regions as the native half takes what it captures and loads. */
export function sourcesOf(regions: readonly Region[]): NativeSource[] {
  return regions.map((region) => ({
    view: region.bytes,
    pageSize: region.pageSize,
    mapping: regionInternals(region).ownMapping,
  }));
}
