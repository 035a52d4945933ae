// Memory registered with a userfaultfd.

import { invalidValue, UffdError } from './errors.js';
import type { Region } from './region.js';
import { checkConstruct, checkOneOf, CONSTRUCT } from './validate.js';

/** UFFDIO_REGISTER_MODE_*. */
const MODES = { missing: 1, 'write-protect': 2 } as const;

export type RegisterMode = keyof typeof MODES;

export interface RegisterOptions {
  /** `'native'`: the loop thread ends every fault itself; the iterator observes. */
  resolve?: 'native';
}

/** @internal The userfaultfd behind a registration. */
export interface RegistrationOwner {
  closeRegistration(registration: Registration): void;
}

/** Memory registered with one userfaultfd. `close()` is `uffd.unregister(region)`. */
export class Registration implements Disposable {
  readonly region: Region;
  readonly modes: ReadonlySet<RegisterMode>;
  /** The ioctls this memory allows, for example `'WRITEPROTECT'`. */
  readonly ioctls: ReadonlySet<string>;
  /** The part that is registered, in bytes: memory that grows later is not in it. */
  readonly byteLength: number;
  readonly #owner: RegistrationOwner;

  /** @internal */
  constructor(
    token: typeof CONSTRUCT,
    owner: RegistrationOwner,
    region: Region,
    modes: ReadonlySet<RegisterMode>,
    ioctls: ReadonlySet<string>,
  ) {
    checkConstruct('Registration', token);
    this.#owner = owner;
    this.region = region;
    this.modes = modes;
    this.ioctls = ioctls;
    this.byteLength = region.byteLength;
  }

  close(): void {
    this.#owner.closeRegistration(this);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** @internal */
export function checkModes(mode: unknown): Set<RegisterMode> {
  const names = Object.keys(MODES) as RegisterMode[];
  const given = Array.isArray(mode) ? (mode as unknown[]) : [mode];
  if (given.length === 0) throw invalidValue('mode', `must name at least one of ${names.join(', ')}`, mode);
  return new Set(given.map((each) => checkOneOf('mode', each, names)));
}

/** @internal */
export function modeBits(modes: ReadonlySet<RegisterMode>): number {
  return [...modes].reduce((bits, mode) => bits | MODES[mode], 0);
}

/** @internal `mode` is named when the region is registered, but not in it. */
export function notRegistered(mode?: RegisterMode): UffdError {
  const how = mode === undefined ? '' : ` in mode "${mode}"`;
  return new UffdError(`This region is not registered${how} with this userfaultfd`, {
    code: 'ERR_UFFD_NOT_REGISTERED',
    hint: `register(region, ${mode === undefined ? 'mode' : `'${mode}'`}) first.`,
  });
}
