// What WP_UNPOPULATED is for: arming pages that do not exist yet.

import { binding } from '../binding.js';
import { DEFAULT_OPTIONAL_FEATURES, type Feature } from '../features.js';
import { Region } from '../region.js';
import { Userfaultfd } from '../userfaultfd.js';
import type { Arming, Unpopulated } from './report.js';

const BYTES = 256 * 1024 * 1024;

/** Arms 256 MiB that nobody touched: with the feature, without it, and after touching every page. */
export function showUnpopulated(): Unpopulated {
  const without = DEFAULT_OPTIONAL_FEATURES.filter((feature) => feature !== 'WP_UNPOPULATED');
  return {
    pages: BYTES / binding().pageSize,
    withFeature: arm(DEFAULT_OPTIONAL_FEATURES, false),
    withoutFeature: arm(without, false),
    touchedFirst: arm(without, true),
  };
}

function arm(optionalFeatures: readonly Feature[], touchFirst: boolean): Arming {
  using region = Region.allocate({ bytes: BYTES });
  using uffd = Userfaultfd.open({ optionalFeatures });
  uffd.register(region, 'write-protect');
  const started = performance.now();
  if (touchFirst) touchEveryPage(region);
  uffd.writeProtect(region);
  const ms = performance.now() - started;
  const armedPages = uffd.armedPages(region);
  const written = BYTES / 2;
  region.bytes[written] = 1;
  // The write went on, so its fault was resolved: an armed page is not armed any more.
  const writeReported = uffd.armedPages(region) === armedPages - 1;
  return { ms, armedPages, writeReported };
}

/** What there is without the feature: reading each page maps the zero page, which can be armed. */
function touchEveryPage(region: Region): number {
  const { bytes, pageSize } = region;
  let sum = 0;
  for (let offset = 0; offset < bytes.byteLength; offset += pageSize) sum += bytes[offset]!;
  return sum;
}
