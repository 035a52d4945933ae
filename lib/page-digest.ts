// A digest for each page: SHA-256, by Node's OpenSSL. Natively, for Node's own ways cost half as much again:
// a call for each page.

import { hash } from 'node:crypto';
import { binding } from './binding.js';
import { DIGEST_BYTES } from './snapshot-format.js';

/** One digest after another, of the whole pages in `bytes`. */
export function digestPages(bytes: Uint8Array, pageSize: number): Buffer {
  const digests = Buffer.allocUnsafe((bytes.length / pageSize) * DIGEST_BYTES);
  if (bytes.length === 0 || binding().digestPages(bytes, pageSize, digests)) return digests;
  for (let at = 0, to = 0; at < bytes.length; at += pageSize, to += DIGEST_BYTES) {
    digests.write(hash('sha256', bytes.subarray(at, at + pageSize), 'binary'), to, 'latin1');
  }
  return digests;
}
