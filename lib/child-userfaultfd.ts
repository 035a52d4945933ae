// The userfaultfd of a forked child, as its parent has it.

import { inspect } from 'node:util';
import type { NativePartial, NativeUserfaultfd } from './binding.js';
import { closedError, errnoName, featureNeeded, systemError } from './errors.js';
import {
  checkRegion,
  copyRequest,
  fillMode,
  unprotectMode,
  wakeMode,
  WRITEPROTECT_WP,
  type CopyOptions,
  type WakeOption,
} from './range-calls.js';
import type { Region } from './region.js';
import { checkConstruct, checkPageRange, CONSTRUCT, type ByteRange } from './validate.js';

// The order of ChildCall in native/core/forked_children.h.
const WRITE_PROTECT = 0;
const WAKE = 1;
const COPY = 2;
const ZEROPAGE = 3;
const CONTINUE = 4;
const POISON = 5;
const UNREGISTER = 6;

const SYSCALLS = ['WRITEPROTECT', 'WAKE', 'COPY', 'ZEROPAGE', 'CONTINUE', 'POISON', 'UNREGISTER'] as const;

/** @internal The userfaultfd that a child came from. */
export type ChildOwner = Pick<NativeUserfaultfd, 'isChildOpen' | 'onChild' | 'closeChild'>;

/** Objects that nobody closed and nobody can reach any more. */
const dropped = new FinalizationRegistry<{ owner: ChildOwner; id: number }>(({ owner, id }) =>
  owner.closeChild(id),
);

/**
 * The memory that a forked child got, registered as it was in the parent, with the same protection. A
 * region names the part of the child's memory at the same addresses. While this is open the native loop
 * ends the child's faults as it ends those that no handler takes, and reads its events; neither is told.
 *
 * It is closed by `close()`, by the userfaultfd it came from, by the garbage collector, and soon after
 * the child has ended or called exec. Then nothing in the child is registered any more, and its threads
 * go on. Every other method then throws `ERR_UFFD_CLOSED`.
 *
 * man 2 userfaultfd (UFFD_EVENT_FORK), man 2 ioctl_userfaultfd.
 */
export class ChildUserfaultfd implements Disposable {
  readonly #owner: ChildOwner;
  readonly #id: number;
  readonly #canPoison: boolean;

  /** @internal `id` 0: it was closed before it could be told. */
  constructor(token: typeof CONSTRUCT, owner: ChildOwner, id: number, canPoison: boolean) {
    checkConstruct('ChildUserfaultfd', token);
    this.#canPoison = canPoison;
    this.#owner = owner;
    this.#id = id;
    if (id !== 0) dropped.register(this, { owner, id }, this);
  }

  get closed(): boolean {
    return !this.#owner.isChildOpen(this.#id);
  }

  /** Arms pages of the child: its next write to each is a fault, which the loop ends. UFFDIO_WRITEPROTECT. */
  writeProtect(region: Region, range?: Partial<ByteRange>): void {
    this.#whole(WRITE_PROTECT, region, range, WRITEPROTECT_WP);
  }

  /** Takes the protection away and wakes the writers that wait. UFFDIO_WRITEPROTECT without MODE_WP. */
  unprotect(region: Region, range?: Partial<ByteRange>, options: WakeOption = {}): void {
    this.#whole(WRITE_PROTECT, region, range, unprotectMode(options));
  }

  /** Wakes the child's threads that wait in these pages; they try again. UFFDIO_WAKE. */
  wake(region: Region, range?: Partial<ByteRange>): void {
    this.#whole(WAKE, region, range, 0);
  }

  /**
   * Fills pages that the child does not have with `bytes` of this process. `offset` and the length of
   * `bytes` are whole pages. UFFDIO_COPY.
   * @returns the bytes copied; less than asked when a page in the middle exists already.
   */
  copy(
    region: Region,
    offset: number,
    bytes: ArrayBufferView | ArrayBuffer | SharedArrayBuffer,
    options: CopyOptions = {},
  ): number {
    const { source, mode } = copyRequest(region, offset, bytes, options);
    return this.#part(COPY, region, { offset, length: source.byteLength }, mode, source);
  }

  /** Fills pages that the child does not have with zeros; the bytes filled. UFFDIO_ZEROPAGE. */
  zeropage(region: Region, range?: Partial<ByteRange>, options: WakeOption = {}): number {
    return this.#part(ZEROPAGE, region, range, wakeMode(options));
  }

  /** Maps pages that are in the page cache but not in the child; the bytes mapped. UFFDIO_CONTINUE. */
  continue(region: Region, range?: Partial<ByteRange>, options: CopyOptions = {}): number {
    return this.#part(CONTINUE, region, range, fillMode(options));
  }

  /** Makes pages that the child does not have fatal for it; the bytes poisoned. UFFDIO_POISON (Linux 6.6), feature POISON. */
  poison(region: Region, range?: Partial<ByteRange>, options: WakeOption = {}): number {
    if (!this.#canPoison) throw featureNeeded('poison()', ['POISON']);
    return this.#part(POISON, region, range, wakeMode(options));
  }

  /** Makes this part of the child's memory plain, and wakes who waits there. UFFDIO_UNREGISTER, UFFDIO_WAKE. */
  unregister(region: Region, range?: Partial<ByteRange>): void {
    this.#whole(UNREGISTER, region, range, 0);
  }

  /** Unregisters all of the child's memory and closes its userfaultfd. Closing twice is fine. */
  close(): void {
    dropped.unregister(this);
    this.#owner.closeChild(this.#id);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  [inspect.custom](): string {
    if (!(#id in this)) return 'ChildUserfaultfd {}';
    return this.closed ? 'ChildUserfaultfd { closed }' : 'ChildUserfaultfd { open }';
  }

  #whole(call: number, region: Region, range: unknown, mode: number): void {
    const { errno } = this.#call(call, region, range, mode);
    if (errno !== 0) throw this.#error(call, errno);
  }

  #part(call: number, region: Region, range: unknown, mode: number, bytes?: Uint8Array): number {
    const partial = this.#call(call, region, range, mode, bytes);
    if (partial.bytes === 0 && partial.errno !== 0) throw this.#error(call, partial.errno);
    return partial.bytes;
  }

  #call(call: number, region: Region, range: unknown, mode: number, bytes?: Uint8Array): NativePartial {
    if (this.closed) throw closedError('child userfaultfd');
    const view = checkRegion(region).bytes;
    const { offset, length } = checkPageRange(range, view.byteLength, region.pageSize);
    return this.#owner.onChild(this.#id, call, view, offset, length, mode, bytes);
  }

  #error(call: number, errno: number): Error {
    if (errnoName(errno) === 'ESHUTDOWN') return closedError('child userfaultfd');
    return systemError({ errno, syscall: `ioctl(UFFDIO_${SYSCALLS[call]!})` });
  }
}
