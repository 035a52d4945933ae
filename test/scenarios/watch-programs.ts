// Programs for `userfaultfd watch`: node watch-programs.js NAME [ARG…]. But for `trackers` they know
// nothing of this package.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { channel } from 'node:diagnostics_channel';
import { readFileSync, readSync, writeSync } from 'node:fs';
import { isMainThread, parentPort, threadId, Worker, workerData } from 'node:worker_threads';

const PAGE = 4096;
const WASM_PAGE = 65_536;
const done = channel('userfaultfd:mark');

/** Memory exported as `memory`; the second imports `env.memory` and exports it again. */
const EXPORTS_MEMORY = Uint8Array.from([
  0, 97, 115, 109, 1, 0, 0, 0, 5, 3, 1, 0, 2, 7, 10, 1, 6, 109, 101, 109, 111, 114, 121, 2, 0,
]);

function write(memory: WebAssembly.Memory, ...pages: number[]): void {
  const bytes = new Uint8Array(memory.buffer);
  for (const page of pages) bytes[page * PAGE] = 1;
}

function nextLook(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 60));
}

const programs: Record<string, (...args: string[]) => unknown> = {
  /** All of its surroundings that a program can see. */
  describe: (...args) => {
    const { argv, env, exitCode } = process;
    console.log(JSON.stringify({ args, argv, env, cwd: process.cwd(), exitCode, threadId }));
    console.log(readFileSync(0, 'utf8'));
    console.error('to standard error');
    const child = spawnSync(process.execPath, [
      '-p',
      'process.execArgv.length + Object.keys(process.env).length',
    ]);
    console.log(child.stdout.toString());
    process.exitCode = 3;
  },
  exit: () => {
    setInterval(() => undefined, 1000);
    write(new WebAssembly.Memory({ initial: 1 }), 3, 5);
    process.exit(7);
  },
  throw: () => {
    throw new RangeError('thrown by the program');
  },
  reject: () => void Promise.reject(new Error('rejected by the program')),
  /** Nobody takes care of the promise. */
  rejectInstantiate: () => void WebAssembly.instantiate(Uint8Array.of(1, 2, 3)),
  killed: (signal) => {
    process.kill(process.pid, signal);
    setInterval(() => undefined, 1000);
  },
  /** Until a signal, which it survives twice. */
  signals: () => {
    let count = 0;
    const timer = setInterval(() => undefined, 1000);
    process.on('SIGTERM', () => {
      console.log(`SIGTERM ${++count}`);
      if (count === 2) clearInterval(timer);
    });
    console.log('READY');
  },
  /** What stands in for the constructors is like them. */
  constructors: async () => {
    const memory = new WebAssembly.Memory({ initial: 1 });
    assert.ok(memory instanceof WebAssembly.Memory);
    assert.equal(memory.constructor, WebAssembly.Memory);
    assert.equal(WebAssembly.Memory.name, 'Memory');
    class Mine extends WebAssembly.Memory {
      readonly mine = true;
    }
    const mine = new Mine({ initial: 1 });
    assert.ok(mine instanceof Mine && mine instanceof WebAssembly.Memory && mine.mine);
    assert.equal(mine.constructor, Mine);
    assert.throws(() => new WebAssembly.Memory({ initial: -1 }), TypeError);
    // @ts-expect-error it must not be called
    assert.throws(() => WebAssembly.Memory({ initial: 1 }), TypeError);
    const module = new WebAssembly.Module(EXPORTS_MEMORY);
    const instance = new WebAssembly.Instance(module);
    assert.equal(instance.exports['memory'], instance.exports['memory']);
    assert.ok((await WebAssembly.instantiate(module)) instanceof WebAssembly.Instance);
    await assert.rejects(WebAssembly.instantiate(Uint8Array.of(1)), WebAssembly.CompileError);
    for (const type of [Uint8Array, Float64Array, BigInt64Array]) {
      const array = new type(1 << 18);
      assert.ok(array instanceof type && array.constructor === type);
      assert.equal(type.BYTES_PER_ELEMENT, array.BYTES_PER_ELEMENT);
      assert.ok(array.slice(0, 2) instanceof type);
      assert.throws(() => new type(-1), RangeError);
    }
    class Bytes extends Uint8Array {}
    assert.ok(new Bytes(4).map((x) => x + 1) instanceof Bytes);
    assert.deepEqual(Uint8Array.from([1, 2]), Uint8Array.of(1, 2));
    assert.ok(ArrayBuffer.isView(new DataView(new ArrayBuffer(1 << 20))));
    assert.equal(new ArrayBuffer(8).constructor, ArrayBuffer);
    assert.ok(Buffer.alloc(1 << 21, 'ab') instanceof Uint8Array);
    assert.equal(Buffer.alloc.name, 'alloc');
    assert.equal(Buffer.concat([Buffer.from('a'), Buffer.from('b')]).toString(), 'ab');
    assert.equal(structuredClone(new Uint8Array(4)).constructor, Uint8Array);
    console.log('as ever');
  },
  /** Two threads write one memory; tells who they are. */
  writers: async () => {
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
    const large = new ArrayBuffer(1 << 21);
    done.publish('made');
    write(memory, 1);
    new Uint8Array(large)[5 * PAGE] = 1;
    const worker = new Worker(
      `const { workerData, parentPort } = require('node:worker_threads');
       new Uint8Array(workerData.buffer)[2 * ${PAGE}] = 1;
       parentPort.postMessage(Number(require('node:fs').readlinkSync('/proc/thread-self').split('/').at(-1)));`,
      { eval: true, workerData: memory },
    );
    const id: number = await new Promise((resolve) => worker.once('message', resolve));
    done.publish('written');
    console.log(JSON.stringify([process.pid, id]));
  },
  /** Each kind of memory with a number of pages of its own, marked. */
  kinds: async () => {
    const constructed = new WebAssembly.Memory({ initial: 2, maximum: 8 });
    const shared = new WebAssembly.Memory({ initial: 1, maximum: 2, shared: true });
    const module = new WebAssembly.Module(EXPORTS_MEMORY);
    const [a, b, c] = [
      new WebAssembly.Instance(module),
      (await WebAssembly.instantiate(EXPORTS_MEMORY)).instance,
      await WebAssembly.instantiate(module),
    ].map(({ exports }) => exports['memory'] as WebAssembly.Memory) as [
      WebAssembly.Memory,
      WebAssembly.Memory,
      WebAssembly.Memory,
    ];
    const buffers = [
      new ArrayBuffer(1 << 20),
      new SharedArrayBuffer(1 << 20),
      new Float64Array(1 << 17).buffer,
      Buffer.alloc(1 << 20).buffer,
      Buffer.allocUnsafeSlow(1 << 20).buffer,
    ];
    new ArrayBuffer(1 << 19);
    done.publish('made');
    write(constructed, 1);
    write(shared, 1, 2);
    write(a, 1, 2, 3);
    write(b, 1, 2, 3, 4);
    write(c, 1, 2, 3, 4, 5);
    for (const [i, buffer] of buffers.entries()) {
      const bytes = new Uint8Array(buffer);
      for (let page = 1; page <= 6 + i; page++) bytes[page * PAGE] = 1;
    }
    done.publish('written');
    constructed.grow(2);
    done.publish('grown');
    buffers.length = 0;
  },
  /** A memory, made late, that grows, is given away, and one that is freed. */
  lives: async () => {
    await nextLook();
    const bytes = new Uint8Array(1 << 20).fill(1);
    await nextLook();
    structuredClone(bytes, { transfer: [bytes.buffer] });
    (() => write(new WebAssembly.Memory({ initial: 3 }), 1))();
    await nextLook();
    // Held until that was seen: a buffer that was collected before is told as freed.
    assert.equal(bytes.byteLength, 0);
    for (let i = 0; i < 10; i++) {
      (globalThis as { gc?: () => void }).gc!();
      await nextLook();
    }
    await nextLook();
  },
  /** More than there is address space or mappings for, if somebody held them. */
  forgotten: (count) => {
    let sum = 0;
    for (let i = 0; i < Number(count); i++) {
      const memory = new WebAssembly.Memory({ initial: 1 });
      write(memory, 2);
      sum += new Uint8Array(memory.buffer)[2 * PAGE]!;
    }
    console.log(sum);
  },
  thousand: () => {
    const memories = Array.from({ length: 1000 }, () => new WebAssembly.Memory({ initial: 1 }));
    done.publish('made');
    for (const [i, memory] of memories.entries()) write(memory, i % 16);
    done.publish('written');
    console.log(memories.reduce((sum, memory) => sum + new Uint8Array(memory.buffer).indexOf(1), 0));
  },
  flood: () => {
    const bytes = new Uint8Array(1 << 20);
    const line = 'x'.repeat(1023);
    for (let i = 0; i < 20_000; i++) {
      bytes[(i % 256) * PAGE] = i;
      console.log(line);
    }
  },
  /** Standard output is a pipe that the reader reads slowly: write(2) must wait, not fail. */
  writeSync: () => {
    for (let i = 0; i < 200; i++) writeSync(1, 'y'.repeat(10_000));
  },
  /** In a Worker, and in a Worker of it. */
  workers: () => {
    const depth = (workerData as number | null) ?? 0;
    if (depth > 0) {
      write(new WebAssembly.Memory({ initial: depth }), ...Array.from({ length: depth }, (_, i) => i));
      done.publish(`depth ${depth}`);
    }
    if (depth < 2) new Worker(__filename, { workerData: depth + 1, argv: ['workers'] });
  },
  terminated: async () => {
    if (!isMainThread) {
      write(new WebAssembly.Memory({ initial: 1 }), 1);
      done.publish('from the Worker');
      parentPort!.postMessage('published');
      setInterval(() => undefined, 1000);
      return;
    }
    const worker = new Worker(__filename, { workerData: 1, argv: ['terminated'] });
    await new Promise((resolve) => worker.once('message', resolve));
    await nextLook();
    await worker.terminate();
    console.log('terminated');
  },
  /** Four threads that talk at once. */
  chorus: (count) => {
    if (isMainThread) {
      for (let i = 0; i < 4; i++) new Worker(__filename, { workerData: i, argv: ['chorus', count] });
      return;
    }
    const padding = 'z'.repeat(9000);
    write(new WebAssembly.Memory({ initial: 1 }), 1);
    for (let i = 0; i < Number(count); i++) done.publish(`${String(workerData)}:${i}:${padding}`);
  },
  /** Sees its own writes, each once, and so does the watcher. */
  trackers: () => {
    // eslint-disable-next-line @typescript-eslint/no-require-imports -- only this program needs it
    const { DirtyTracker } = require('userfaultfd') as typeof import('../../lib/index.js');
    const memory = new WebAssembly.Memory({ initial: 4 });
    const first = new DirtyTracker(memory);
    const second = new DirtyTracker(memory);
    done.publish('before');
    write(memory, 1, 2, 3);
    assert.equal(first.collect().pageCount, 3);
    write(memory, 3, 4);
    done.publish('both');
    assert.equal(first.collect().pageCount, 2);
    assert.equal(second.collect().pageCount, 4);
    first.close();
    second.close();
    write(memory, 9);
    done.publish('after');
    console.log('seen');
  },
  /** Serves its memory's faults itself. */
  registers: () => {
    // eslint-disable-next-line @typescript-eslint/no-require-imports -- only this program needs it
    const { Region, Userfaultfd } = require('userfaultfd') as typeof import('../../lib/index.js');
    const memory = new WebAssembly.Memory({ initial: 4 });
    const region = Region.from(memory);
    const uffd = Userfaultfd.open();
    uffd.register(region, 'write-protect');
    uffd.writeProtect(region);
    write(memory, 1, 2);
    assert.equal(uffd.armedPages(region), (4 * WASM_PAGE) / PAGE - 2);
    uffd.close();
    console.log('served');
  },
  /** Prints and writes, for as long as the picture needs to be seen; to the end, or to be ended. */
  lines: async (end) => {
    const memory = new WebAssembly.Memory({ initial: 16 });
    console.log(`terminal: ${process.stdout.isTTY} ${process.stderr.isTTY} ${process.stdin.isTTY}`);
    for (let i = 0; i < 30; i++) {
      write(memory, i * 8);
      console.log(`line ${i} of the program`);
      if (i % 6 === 0) await nextLook();
      if (i === 20 && end === 'seen') await new Promise((resolve) => process.stdin.once('data', resolve));
    }
    process.stdin.pause();
    process.stdout.write('no end of line');
    if (end === 'interrupted') setInterval(() => undefined, 1000);
    if (end === 'killed') process.kill(process.pid, 'SIGKILL');
    if (end === 'throws') throw new Error('thrown by the program');
  },
  /** Busy until standard input ends. */
  busy: async () => {
    const memory = new WebAssembly.Memory({ initial: 1 });
    write(memory, 1);
    await nextLook();
    readSync(0, new Uint8Array(1));
    write(memory, 2, 3);
    done.publish('not busy');
  },
  /** More than the way to the watcher holds, while nobody reads there. */
  manyMarks: (count) => {
    const memory = new WebAssembly.Memory({ initial: 1 });
    for (let i = 0; i < Number(count); i++) {
      write(memory, i % 16);
      done.publish(`mark ${i}`);
    }
    console.log('finished');
  },
};

const [name, ...args] = process.argv.slice(2);
void programs[name!]!(...args);
