// A page fault as an event, and for those a handler is to end, the way to end it.

import { inspect, types } from 'node:util';
import type { NativeEnding, NativeUserfaultfd } from './binding.js';
import { asBytes } from './bytes.js';
import { errnoName, faultEnded, invalidValue, outOfRange, sourceRegistered, systemError } from './errors.js';
import { lengthOf } from './memory-source.js';
import type { Region } from './region.js';
import { checkConstruct, checkFlag, checkOptions } from './validate.js';

// The order of FaultReason, EndedBy and Action in native/core/fault.h.
const REASONS = ['missing', 'write-protect', 'minor'] as const;
const ENDED_BY = [
  undefined,
  'loop',
  'handler',
  'deadline',
  'own-thread',
  'no-consumer',
  'call',
  'removed',
  'closed',
  'forgotten',
] as const;
const ACTIONS = [undefined, 'unprotect', 'zeropage', 'copy', 'continue', 'poison', 'wake'] as const;
// EndingNumber of native/userfaultfd_wrap.cc: who, times this, and how.
const ACTIONS_AT_MOST = 16;
const FILL = 0;
const POISON = 1;

/**
 * Who ended a fault. `loop`: resolve `'native'`. `handler`: `resolve()` or `poison()`. The rest are
 * nets under resolve `'handler'`: its `deadline` passed; the thread that consumes the events raised it,
 * or one it waits for (`own-thread`); nobody consumes them any more (`no-consumer`); another method filled, unprotected or
 * woke its page (`call`); its page was given back or unmapped (`removed`); the registration or the
 * userfaultfd was closed (`closed`). `forgotten`: thousands of faults ended since.
 */
export type FaultEndedBy = Exclude<(typeof ENDED_BY)[number], undefined>;
/** How: the ioctl that answered it; `wake` alone when the page was there already, or gone. */
export type FaultAction = Exclude<(typeof ACTIONS)[number], undefined>;

export interface ResolveOptions {
  /**
   * Arm the page in the same step; of a missing or minor fault, in memory that is registered in mode
   * `write-protect` too. A page that was armed before stays so in any case.
   */
  writeProtect?: boolean;
}

/** The userfaultfd a fault came from. */
export interface FaultOwner extends Pick<NativeUserfaultfd, 'endingOf' | 'resolveFault'> {
  /** Throws where pages of this region cannot be armed. */
  checkArming(region: Region): void;
  /** Throws where pages cannot be poisoned. */
  checkPoison(what: string): void;
}

export interface FaultFields {
  region: Region;
  offset: number;
  reason: number;
  write: boolean;
  threadId: number;
  /** 0: it was never handed over. */
  id: number;
  ending: NativeEnding;
}

/**
 * A thread touched a page that was missing, write-protected or not mapped yet.
 *
 * man 2 ioctl_userfaultfd; struct uffd_msg in man 2 userfaultfd.
 */
export class PageFault {
  readonly type = 'pagefault';
  readonly region: Region;
  /** Bytes from the start of the region; of the exact byte with feature EXACT_ADDRESS, else of its page. */
  readonly offset: number;
  readonly reason: 'missing' | 'write-protect' | 'minor';
  readonly access: 'read' | 'write';
  /** The kernel's thread id (gettid(2)), with feature THREAD_ID. */
  readonly threadId: number | undefined;
  readonly #id: number;
  readonly #owner: FaultOwner;
  #ending: NativeEnding;

  /** @internal */
  constructor(token: symbol, owner: FaultOwner, fields: FaultFields) {
    checkConstruct('PageFault', token);
    this.region = fields.region;
    this.offset = fields.offset;
    this.reason = REASONS[fields.reason]!;
    this.access = fields.write ? 'write' : 'read';
    this.threadId = fields.threadId === 0 ? undefined : fields.threadId;
    this.#id = fields.id;
    this.#owner = owner;
    this.#ending = fields.ending;
  }

  /** Whether it was ended and its thread goes on. False while a handler still may, or must, end it. */
  get resolved(): boolean {
    return this.endedBy !== undefined;
  }

  get endedBy(): FaultEndedBy | undefined {
    return endedByOf(this.#look());
  }

  get action(): FaultAction | undefined {
    return actionOf(this.#look());
  }

  /** Where the page begins, in bytes from the start of the region. */
  get pageOffset(): number {
    return this.offset - (this.offset % this.region.pageSize);
  }

  /**
   * Ends the fault, and the thread goes on: a missing page is filled with `bytes` (one page of
   * `region.pageSize`) or with zeros; a write-protected one is unprotected; a minor one is mapped as it
   * is. Done when called; the promise is for handlers to await. UFFDIO_COPY, UFFDIO_ZEROPAGE,
   * UFFDIO_WRITEPROTECT, UFFDIO_CONTINUE.
   * @returns whether this call did it; false when the page was there already, or its memory is gone.
   * @throws {UffdError} `ERR_UFFD_FAULT_ENDED` when it was ended before, also because its registration
   * or userfaultfd closed (`endedBy` says by whom), `ERR_UFFD_NOT_REGISTERED` when the page is to be
   * armed and its mode is not `write-protect`, `ERR_UFFD_SOURCE_REGISTERED` when reading `bytes` could
   * itself fault.
   */
  // eslint-disable-next-line @typescript-eslint/require-await -- a promise inside would take three turns more
  async resolve(
    bytes?: ArrayBufferView | ArrayBuffer | SharedArrayBuffer,
    options?: ResolveOptions,
  ): Promise<boolean> {
    const writeProtect = options !== undefined && this.#isToBeArmed(options);
    return this.#end(FILL, bytes === undefined ? undefined : this.#page(bytes), writeProtect);
  }

  /**
   * Ends the fault by poisoning its page: the thread, and whoever touches the page later, gets SIGBUS
   * as from a memory error. UFFDIO_POISON (Linux 6.6), feature POISON; for a source that failed.
   * @throws {UffdError} `ERR_UFFD_FAULT_ENDED` as `resolve()`, `ERR_UFFD_FEATURE`.
   */
  // eslint-disable-next-line @typescript-eslint/require-await -- as resolve()
  async poison(): Promise<boolean> {
    if (this.reason === 'write-protect') {
      throw invalidValue('fault', 'must be a missing or minor one to be poisoned', this);
    }
    if (!this.resolved) this.#owner.checkPoison('fault.poison()');
    return this.#end(POISON, undefined, false);
  }

  [inspect.custom](_depth: number, options: object): string {
    // The bare prototype, and what merely has it.
    if (!(#id in this)) return 'PageFault {}';
    const { type, region, offset, reason, access, threadId, resolved, endedBy, action } = this;
    return inspect({ type, region, offset, reason, access, threadId, resolved, endedBy, action }, options);
  }

  #look(): NativeEnding {
    // Of a page that was given back it is known at once who ends the fault, and only later how.
    const endedBy = endedByOf(this.#ending);
    if (endedBy !== undefined && (this.#id === 0 || actionOf(this.#ending) !== undefined))
      return this.#ending;
    const now = this.#owner.endingOf(this.#id);
    // Who ended it stays what was told once.
    const who = endedBy === undefined ? now : this.#ending;
    this.#ending = who - (who % ACTIONS_AT_MOST) + (now % ACTIONS_AT_MOST);
    return this.#ending;
  }

  #end(answer: number, bytes: Uint8Array | undefined, writeProtect: boolean): boolean {
    // What ended it since its event came is told by the call itself.
    const known = endedByOf(this.#ending);
    if (known !== undefined) throw faultEnded(known, this.action);
    const done = this.#owner.resolveFault(this.#id, answer, bytes, writeProtect);
    // What cannot be read without a fault was not tried.
    if (done < 0 && errnoName(done) === 'ELOOP') throw sourceRegistered();
    if (done < 0) throw systemError({ errno: done, syscall: this.#syscall(answer, bytes) });
    this.#ending = done;
    if (endedByOf(done) !== 'handler') throw faultEnded(this.endedBy!, this.action);
    return this.action !== 'wake';
  }

  #isToBeArmed(options: ResolveOptions): boolean {
    const given = checkOptions('options', options, ['writeProtect']);
    if (!checkFlag('options.writeProtect', given['writeProtect'], false)) return false;
    if (this.reason === 'write-protect') {
      throw invalidValue(
        'options.writeProtect',
        'belongs to a missing or minor fault: to end this one is to unprotect its page',
        true,
      );
    }
    if (!this.resolved) this.#owner.checkArming(this.region);
    return true;
  }

  #page(bytes: unknown): Uint8Array {
    if (this.reason !== 'missing') {
      throw invalidValue(
        'bytes',
        `can be given for a missing page only; this fault is "${this.reason}"`,
        bytes,
      );
    }
    const { pageSize } = this.region;
    // The usual case: what it is can be said without making another view of it.
    if (types.isUint8Array(bytes) && lengthOf(bytes) === pageSize) return bytes;
    const source = asBytes(bytes);
    const length = lengthOf(source);
    if (length !== pageSize) {
      throw outOfRange('bytes.byteLength', `${pageSize}, one page of this region`, length);
    }
    return source;
  }

  #syscall(answer: number, bytes: Uint8Array | undefined): string {
    if (answer === POISON) return 'ioctl(UFFDIO_POISON)';
    if (this.reason === 'write-protect') return 'ioctl(UFFDIO_WRITEPROTECT)';
    if (this.reason === 'minor') return 'ioctl(UFFDIO_CONTINUE)';
    return bytes === undefined ? 'ioctl(UFFDIO_ZEROPAGE)' : 'ioctl(UFFDIO_COPY)';
  }
}

function endedByOf(ending: NativeEnding): FaultEndedBy | undefined {
  return ENDED_BY[Math.floor(ending / ACTIONS_AT_MOST)];
}

function actionOf(ending: NativeEnding): FaultAction | undefined {
  return ACTIONS[ending % ACTIONS_AT_MOST];
}
