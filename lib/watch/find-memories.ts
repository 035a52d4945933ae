// Notices the memories a program makes, by standing in for their constructors. For the program nothing
// changes: `instanceof`, subclasses, prototypes, `constructor`, statics and errors are those of the
// originals (test 71). Only their source text shows.

import { types } from 'node:util';
import { isWasmMemory } from '../memory-source.js';
import type { WatchedKind } from './records.js';

export type Found = (memory: object, kind: WatchedKind) => void;

export interface FindOptions {
  /** Buffers from this size on, in bytes. */
  minBytes: number;
  /** Whether buffers are looked for, or Wasm memories only. */
  buffers: boolean;
}

const TYPED_ARRAYS = [
  'Int8Array',
  'Uint8Array',
  'Uint8ClampedArray',
  'Int16Array',
  'Uint16Array',
  'Int32Array',
  'Uint32Array',
  'Float16Array',
  'Float32Array',
  'Float64Array',
  'BigInt64Array',
  'BigUint64Array',
];
const BUFFER_FUNCTIONS = ['alloc', 'allocUnsafe', 'allocUnsafeSlow', 'concat', 'copyBytesFrom', 'from'];

/** Calls `found` once for each memory that is made in this thread from here on. */
export function findMemories(found: Found, { minBytes, buffers }: FindOptions): void {
  const known = new WeakSet();
  const see: Found = (memory, kind) => {
    if (known.has(memory)) return;
    known.add(memory);
    found(memory, kind);
  };
  if (typeof WebAssembly !== 'undefined') findWasmMemories(see);
  if (buffers) findBuffers(see, minBytes);
}

function findWasmMemories(see: Found): void {
  const seeExports = (instance: WebAssembly.Instance, module: WebAssembly.Module): void => {
    for (const value of Object.values(instance.exports)) {
      if (!isWasmMemory(value)) continue;
      // One that came from another thread is watched there.
      if (types.isSharedArrayBuffer(value.buffer) && importsMemory(module)) continue;
      see(value, 'WebAssembly.Memory');
    }
  };
  const { Instance } = WebAssembly;
  const seeResult = (result: unknown, [module]: unknown[]): unknown => {
    if (result instanceof Instance) seeExports(result, module as WebAssembly.Module);
    else {
      const source = result as WebAssembly.WebAssemblyInstantiatedSource;
      seeExports(source.instance, source.module);
    }
    return result;
  };
  replaceConstructor(WebAssembly, 'Memory', (memory) => see(memory, 'WebAssembly.Memory'));
  replaceConstructor(WebAssembly, 'Instance', (instance, module) =>
    seeExports(instance as WebAssembly.Instance, module as WebAssembly.Module),
  );
  for (const name of ['instantiate', 'instantiateStreaming']) {
    // The promise the program gets is the one that it must take care of, and the only one.
    replaceFunction(WebAssembly, name, (promise, args) =>
      (promise as Promise<unknown>).then((result) => seeResult(result, args)),
    );
  }
}

function importsMemory(module: WebAssembly.Module): boolean {
  return WebAssembly.Module.imports(module).some(({ kind }) => kind === 'memory');
}

function findBuffers(see: Found, minBytes: number): void {
  const seeBuffer = (buffer: ArrayBufferLike): void => {
    if (buffer.byteLength < minBytes) return;
    see(buffer, types.isSharedArrayBuffer(buffer) ? 'SharedArrayBuffer' : 'ArrayBuffer');
  };
  const seeView = (view: unknown): void => {
    // Asking a small one for its buffer would make one.
    if (ArrayBuffer.isView(view) && view.byteLength >= minBytes) seeBuffer(view.buffer);
  };
  for (const name of ['ArrayBuffer', 'SharedArrayBuffer']) {
    replaceConstructor(globalThis, name, (buffer) => seeBuffer(buffer as ArrayBufferLike));
  }
  for (const name of TYPED_ARRAYS) {
    replaceConstructor(globalThis, name, (view, source) => {
      // A view of a buffer that exists makes none.
      if ((view as ArrayBufferView).byteLength >= minBytes && !types.isAnyArrayBuffer(source)) seeView(view);
    });
  }
  for (const name of BUFFER_FUNCTIONS) {
    replaceFunction(Buffer, name, (result) => {
      seeView(result);
      return result;
    });
  }
}

type Constructor = new (a?: unknown, b?: unknown, c?: unknown) => object;
type Callable = (...args: unknown[]) => unknown;

/** None of these takes more than three arguments, or tells one that is missing from undefined. */
function replaceConstructor(
  owner: object,
  name: string,
  made: (object: object, argument: unknown) => void,
): void {
  const described = Object.getOwnPropertyDescriptor(owner, name);
  if (described === undefined) return;
  const original = described.value as Constructor;
  // Not a Proxy, nor rest parameters: those make small arrays fifty times slower.
  const standIn = function (a?: unknown, b?: unknown, c?: unknown): object {
    // eslint-disable-next-line @typescript-eslint/no-unnecessary-condition -- its type leaves out a plain call
    if (new.target === undefined) return (original as unknown as () => object)();
    const object =
      (new.target as unknown) === standIn
        ? new original(a, b, c)
        : (Reflect.construct(original, [a, b, c], new.target) as object);
    made(object, a);
    return object;
  };
  resemble(standIn, original);
  const { prototype } = original as { prototype: object };
  Object.defineProperty(prototype, 'constructor', { value: standIn });
  Object.defineProperty(owner, name, { value: standIn });
}

function replaceFunction(
  owner: object,
  name: string,
  returned: (result: unknown, args: unknown[]) => unknown,
): void {
  const described = Object.getOwnPropertyDescriptor(owner, name);
  if (described === undefined) return;
  const original = described.value as Callable;
  const standIn = function (this: unknown, ...args: unknown[]): unknown {
    return returned(Reflect.apply(original, this, args), args);
  };
  resemble(standIn, original);
  Object.defineProperty(owner, name, { value: standIn });
}

/** Name, statics, prototype and what it inherits. */
function resemble(standIn: object, original: object): void {
  Object.setPrototypeOf(standIn, Object.getPrototypeOf(original) as object);
  for (const key of Reflect.ownKeys(original)) {
    Object.defineProperty(standIn, key, Object.getOwnPropertyDescriptor(original, key)!);
  }
}
