// A digest for each page: SHA-256, by Node's OpenSSL. Natively, for Node's own ways cost half as much again (a call
// for each page), and by two threads.

import { hash } from 'node:crypto';
import { binding, type NativeToken } from './binding.js';
import { DIGEST_BYTES } from './snapshot-format.js';

/**
 * One digest after another, of whole pages. A thread of libuv's pool makes them from now on; who needs them helps, so
 * a pool that is busy with something else delays nothing.
 */
export class PageDigests {
  readonly #digests: Buffer;
  readonly #begun: NativeToken | undefined;
  #ended: Promise<void> | undefined;

  /** `pages` stay as they are until the digests are made. */
  constructor(pages: Uint8Array, pageSize: number) {
    this.#digests = Buffer.allocUnsafe((pages.length / pageSize) * DIGEST_BYTES);
    this.#begun = binding().beginDigests(pages, pageSize, this.#digests);
    if (this.#begun === undefined) digestInJavaScript(pages, pageSize, this.#digests);
  }

  async made(): Promise<Buffer> {
    if (this.#begun !== undefined) {
      this.#ended ??= Promise.resolve(binding().endDigests(this.#begun));
      await this.#ended;
    }
    return this.#digests;
  }
}

/** In a Node.js without OpenSSL's functions. */
function digestInJavaScript(pages: Uint8Array, pageSize: number, digests: Buffer): void {
  for (let at = 0, to = 0; at < pages.length; at += pageSize, to += DIGEST_BYTES) {
    digests.write(hash('sha256', pages.subarray(at, at + pageSize), 'binary'), to, 'latin1');
  }
}
