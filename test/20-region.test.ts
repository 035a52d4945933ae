// Memory of our own, and existing memory in place.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { constants } from 'node:buffer';
import path from 'node:path';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { binding } from '../lib/binding.js';
import { DirtyTracker, Region, Snapshot, Userfaultfd, type MemorySource } from '../lib/index.js';
import { passScenario } from './support/scenario.js';
import { cannotRun } from './support/skip.js';

const { pageSize } = binding();
const CLOSED = { name: 'UffdError', code: 'ERR_UFFD_CLOSED' };
const DETACHED = { name: 'UffdError', code: 'ERR_UFFD_DETACHED' };

type Resizable = ArrayBuffer & { resize(bytes: number): void };
type Growable = SharedArrayBuffer & { grow(bytes: number): void };
const ResizableBuffer = ArrayBuffer as unknown as new (
  bytes: number,
  options: { maxByteLength: number },
) => Resizable;
const GrowableBuffer = SharedArrayBuffer as unknown as new (
  bytes: number,
  options: { maxByteLength: number },
) => Growable;

const canTransfer = 'transfer' in ArrayBuffer.prototype;
function transfer(buffer: ArrayBuffer): ArrayBuffer {
  return (buffer as ArrayBuffer & { transfer(): ArrayBuffer }).transfer();
}

function wasmMemory(pages: number, shared = false): WebAssembly.Memory {
  return new WebAssembly.Memory({ initial: pages, maximum: 64, shared });
}

test('it allocates whole pages, zero-filled and page-aligned', () => {
  for (const [asked, got] of [
    [1, pageSize],
    [pageSize, pageSize],
    [pageSize + 1, 2 * pageSize],
    [10 * pageSize - 1, 10 * pageSize],
  ] as const) {
    using region = Region.allocate({ bytes: asked });
    assert.equal(region.byteLength, got);
    assert.equal(region.bytes.byteLength, got);
    assert.equal(region.buffer.byteLength, got);
    assert.equal(region.bytes.byteOffset, 0);
    assert.equal(region.pageSize, pageSize);
    assert.equal(region.kind, 'owned');
    assert.equal(binding().addressInPage(region.bytes), 0);
    assert.ok(region.bytes.every((byte) => byte === 0));
    assert.equal(region.closed, false);
  }
});

test('it gives each region memory of its own, which is the buffer', () => {
  using one = Region.allocate({ bytes: pageSize, backing: 'anonymous' });
  using other = Region.allocate({ bytes: pageSize });
  one.bytes.fill(1);
  assert.ok(other.bytes.every((byte) => byte === 0));
  new DataView(one.buffer).setUint32(8, 0x01020304);
  assert.deepEqual([...one.bytes.subarray(8, 12)], [1, 2, 3, 4]);
  assert.equal(one.bytes.buffer, one.buffer);
  assert.equal(one.bytes, one.bytes, 'the same view as long as the memory is the same');
});

test('it allocates mappings that a forked child does not get and that are not resident before use', async () => {
  await passScenario('region', 'hasItsOwnMapping');
});

test('it allocates memory that KSM does not merge, also where merging is on for the whole process (B12)', (t) => {
  const start = `
import ctypes, os, sys
PR_SET_MEMORY_MERGE = 67
if ctypes.CDLL(None).prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0) != 0: sys.exit(77)
os.execv(sys.argv[1], sys.argv[1:])`;
  const runner = path.join(__dirname, 'support', 'run-scenario.js');
  const scenario = path.join(__dirname, 'scenarios', 'region.js');
  const result = spawnSync('python3', ['-c', start, process.execPath, runner, scenario, 'isNotMergeable'], {
    encoding: 'utf8',
    timeout: 10_000,
    killSignal: 'SIGKILL',
  });
  if (result.error !== undefined || result.status === 77) {
    cannotRun(t, 'needs python3, Linux 6.7 with CONFIG_KSM and CAP_SYS_RESOURCE');
    return;
  }
  assert.equal(result.status, 0, `signal ${result.signal}\n${result.stdout}${result.stderr}`);
});

interface InPlace {
  kind: 'wasm' | 'foreign';
  memory: MemorySource;
  /** The same bytes, seen from the outside. */
  outside: Uint8Array;
}

const IN_PLACE: Record<string, () => InPlace> = {
  'a WebAssembly.Memory': () => {
    const memory = wasmMemory(1);
    return { kind: 'wasm', memory, outside: new Uint8Array(memory.buffer) };
  },
  'a shared WebAssembly.Memory': () => {
    const memory = wasmMemory(1, true);
    return { kind: 'wasm', memory, outside: new Uint8Array(memory.buffer) };
  },
  'an ArrayBuffer': () => {
    const memory = new ArrayBuffer(100);
    return { kind: 'foreign', memory, outside: new Uint8Array(memory) };
  },
  'a SharedArrayBuffer': () => {
    const memory = new SharedArrayBuffer(3 * pageSize + 5);
    return { kind: 'foreign', memory, outside: new Uint8Array(memory) };
  },
  'a Buffer of the pool': () => {
    const memory = Buffer.from('some bytes in the pool of all Buffers');
    return {
      kind: 'foreign',
      memory,
      outside: new Uint8Array(memory.buffer, memory.byteOffset, memory.byteLength),
    };
  },
  'a large Buffer': () => {
    const memory = Buffer.alloc(5 * pageSize);
    return {
      kind: 'foreign',
      memory,
      outside: new Uint8Array(memory.buffer, memory.byteOffset, memory.byteLength),
    };
  },
  'a DataView with an offset': () => {
    const buffer = new ArrayBuffer(1000);
    return {
      kind: 'foreign',
      memory: new DataView(buffer, 17, 500),
      outside: new Uint8Array(buffer, 17, 500),
    };
  },
  'a Float64Array with an offset': () => {
    const buffer = new ArrayBuffer(1000);
    return {
      kind: 'foreign',
      memory: new Float64Array(buffer, 16, 10),
      outside: new Uint8Array(buffer, 16, 80),
    };
  },
  'a BigInt64Array over a SharedArrayBuffer': () => {
    const buffer = new SharedArrayBuffer(1024);
    return {
      kind: 'foreign',
      memory: new BigInt64Array(buffer, 8, 4),
      outside: new Uint8Array(buffer, 8, 32),
    };
  },
  'a resizable ArrayBuffer': () => {
    const memory = new ResizableBuffer(pageSize, { maxByteLength: 4 * pageSize });
    return { kind: 'foreign', memory, outside: new Uint8Array(memory) };
  },
  'a growable SharedArrayBuffer': () => {
    const memory = new GrowableBuffer(pageSize, { maxByteLength: 4 * pageSize });
    return { kind: 'foreign', memory, outside: new Uint8Array(memory) };
  },
  'a view of another region': () => {
    const memory = Region.allocate({ bytes: 4 * pageSize }).bytes.subarray(pageSize, 2 * pageSize);
    return { kind: 'foreign', memory, outside: memory.subarray() };
  },
};

for (const [name, make] of Object.entries(IN_PLACE)) {
  test(`it takes ${name} in place`, () => {
    const { kind, memory, outside } = make();
    using region = Region.from(memory);
    assert.equal(region.kind, kind);
    assert.equal(region.byteLength, outside.byteLength);
    assert.equal(region.buffer, outside.buffer);
    assert.equal(region.bytes.byteOffset, outside.byteOffset);
    region.bytes[0] = 201;
    region.bytes[region.byteLength - 1] = 202;
    assert.deepEqual([outside[0], outside.at(-1)], [201, 202]);
    outside.fill(77);
    assert.ok(region.bytes.every((byte) => byte === 77));
    const length = outside.byteLength;
    region.close();
    assert.equal(outside.byteLength, length, 'closing leaves memory of others alone');
    assert.equal(outside[0], 77);
    assert.throws(() => region.bytes, CLOSED);
  });
}

for (const shared of [false, true]) {
  test(`it follows the growth of a ${shared ? 'shared ' : ''}WebAssembly.Memory`, () => {
    const memory = wasmMemory(1, shared);
    const region = Region.from(memory);
    const before = region.bytes;
    before[7] = 7;
    memory.grow(2);
    assert.equal(region.byteLength, 3 * 65_536);
    assert.equal(region.bytes.byteLength, 3 * 65_536);
    assert.equal(region.buffer, memory.buffer);
    assert.equal(region.bytes[7], 7);
    region.bytes[2 * 65_536 + 9] = 9;
    assert.equal(new Uint8Array(memory.buffer)[2 * 65_536 + 9], 9);
    if (!shared) assert.equal(before.byteLength, 0, 'JavaScript detaches the old view itself');
  });
}

test('it takes a WebAssembly.Memory without pages, which may grow', () => {
  const memory = wasmMemory(0);
  using region = Region.from(memory);
  assert.equal(region.byteLength, 0);
  memory.grow(1);
  assert.equal(region.byteLength, 65_536);
});

test('it snapshots a WebAssembly.Memory without pages', () => {
  const memory = wasmMemory(0);
  using snapshot = Snapshot.take(memory);
  assert.equal(snapshot.byteLength, 0);
  memory.grow(1);
  new Uint8Array(memory.buffer).fill(1);
  snapshot.restore();
  assert.ok(
    new Uint8Array(memory.buffer).every((byte) => byte === 0),
    'what came with growth reads as zero',
  );
});

test('it snapshots small buffers, which share their pages with data that others write (B9)', async () => {
  await passScenario('region', 'snapshotsOfSmallBuffers');
});

test('it follows a resizable ArrayBuffer and a growable SharedArrayBuffer', () => {
  const resizable = new ResizableBuffer(pageSize, { maxByteLength: 4 * pageSize });
  const growable = new GrowableBuffer(pageSize, { maxByteLength: 4 * pageSize });
  const tracking = new Uint8Array(resizable, 16);
  using whole = Region.from(resizable);
  using view = Region.from(tracking);
  using shared = Region.from(growable);
  resizable.resize(3 * pageSize);
  growable.grow(2 * pageSize);
  assert.equal(whole.byteLength, 3 * pageSize);
  assert.equal(view.byteLength, 3 * pageSize - 16);
  assert.equal(shared.byteLength, 2 * pageSize);
  whole.bytes[3 * pageSize - 1] = 3;
  assert.equal(view.bytes.at(-1), 3);
  resizable.resize(pageSize);
  assert.equal(whole.byteLength, pageSize);
  assert.equal(view.byteLength, pageSize - 16);
  assert.ok(Region.from(resizable).bytes.every((byte) => byte === 0));
});

for (const [name, viewOf] of [
  ['Uint8Array', (buffer: ArrayBuffer): ArrayBufferView => new Uint8Array(buffer, pageSize, pageSize)],
  ['DataView', (buffer: ArrayBuffer): ArrayBufferView => new DataView(buffer, pageSize, pageSize)],
] as const) {
  test(`it reports a ${name} whose bytes were resized away, and never answers for it (C7)`, () => {
    const buffer = new ResizableBuffer(2 * pageSize, { maxByteLength: 4 * pageSize });
    const view = viewOf(buffer);
    using region = Region.from(view);
    using tracker = new DirtyTracker(view);
    using snapshot = Snapshot.take(view);
    new Uint8Array(buffer).fill(1);
    buffer.resize(pageSize);
    assert.throws(() => region.bytes, DETACHED);
    assert.throws(() => tracker.collect(), DETACHED);
    assert.throws(() => tracker.peek(), DETACHED);
    assert.throws(() => snapshot.restore());
    assert.throws(() => snapshot.diff());
    assert.throws(() => Region.from(view), DETACHED);
    // Back again, other bytes: reported as written.
    buffer.resize(2 * pageSize);
    assert.equal(region.byteLength, pageSize);
    assert.equal(tracker.collect().byteLength, pageSize);
  });
}

test('it detaches what it owns on close, so every view has length 0', () => {
  const region = Region.allocate({ bytes: 4 * pageSize });
  const { buffer, bytes } = region;
  const views = [
    bytes,
    new Uint8Array(buffer),
    new Float64Array(buffer, 8, 4),
    Buffer.from(buffer),
    bytes.subarray(1, 2),
  ];
  const dataView = new DataView(buffer, 8, 8);
  bytes.fill(1);
  region.close();
  assert.equal(buffer.byteLength, 0);
  for (const view of views) {
    assert.equal(view.byteLength, 0, view.constructor.name);
    assert.equal(view.length, 0);
    assert.equal(view[0], undefined);
  }
  assert.throws(() => dataView.getUint8(0), TypeError);
  bytes[0] = 1;
  assert.equal(bytes[0], undefined, 'a store goes nowhere');
});

test('it may be closed twice, and says that it is closed', () => {
  const region = Region.allocate({ bytes: pageSize });
  region.close();
  region.close();
  region[Symbol.dispose]();
  assert.equal(region.closed, true);
  assert.equal(region.byteLength, 0);
});

test('it closes at the end of a using block', () => {
  let kept: Region;
  {
    using region = Region.allocate({ bytes: pageSize });
    kept = region;
    assert.equal(kept.closed, false);
  }
  assert.equal(kept.closed, true);
  assert.throws(() => kept.bytes, CLOSED);
});

test('it refuses every use of a closed region with ERR_UFFD_CLOSED', () => {
  using uffd = Userfaultfd.open();
  for (const region of [
    Region.allocate({ bytes: pageSize }),
    Region.from(wasmMemory(1)),
    Region.from(new Uint8Array(9)),
  ]) {
    region.close();
    const uses: (() => unknown)[] = [
      () => region.bytes,
      () => region.buffer,
      () => {
        region.discard();
      },
      () => new DirtyTracker(region),
      () => Snapshot.take(region),
      () => uffd.register(region, 'missing'),
    ];
    for (const use of uses) assert.throws(use, CLOSED, `${region.kind}: ${String(use)}`);
  }
});

test('it closes whatever used the region: tracker, snapshot and registration', () => {
  const region = Region.allocate({ bytes: 4 * pageSize });
  using tracker = new DirtyTracker(region);
  const snapshot = Snapshot.take(region);
  using registered = Region.allocate({ bytes: pageSize });
  using uffd = Userfaultfd.open();
  uffd.register(registered, 'write-protect');
  uffd.writeProtect(registered);
  region.close();
  registered.close();
  assert.throws(() => tracker.collect(), CLOSED);
  assert.throws(() => snapshot.restore(), CLOSED);
  assert.throws(() => snapshot.read(), CLOSED);
  assert.equal(uffd.registrations.length, 0);
  assert.throws(() => {
    uffd.writeProtect(registered);
  }, CLOSED);
});

const DETACHING: Record<string, (buffer: ArrayBuffer) => void> = {
  'structuredClone()': (buffer) => {
    structuredClone(buffer, { transfer: [buffer] });
  },
  'postMessage()': (buffer) => {
    const { port1, port2 } = new MessageChannel();
    port1.postMessage(buffer, [buffer]);
    port1.close();
    port2.close();
  },
  ...(canTransfer ? { 'transfer()': (buffer: ArrayBuffer): void => void transfer(buffer) } : {}),
};

for (const [name, detach] of Object.entries(DETACHING)) {
  test(`it reports memory taken away by ${name} as ERR_UFFD_DETACHED, never a wrong answer (C7)`, () => {
    const views: ((buffer: ArrayBuffer) => MemorySource)[] = [
      (buffer) => buffer,
      (buffer) => new Uint8Array(buffer, pageSize),
      (buffer) => new DataView(buffer),
      (buffer) => Buffer.from(buffer),
    ];
    for (const viewOf of views) {
      const buffer = new ArrayBuffer(4 * pageSize);
      const memory = viewOf(buffer);
      const live = new Uint8Array(2 * pageSize);
      const region = Region.from(memory);
      using trackerOfRegion = new DirtyTracker(region);
      using tracker = new DirtyTracker([memory, live]);
      using snapshot = Snapshot.take([live, memory]);
      new Uint8Array(buffer).fill(1);
      live.fill(1);
      detach(buffer);

      const uses: (() => unknown)[] = [
        () => region.bytes,
        () => region.buffer,
        () => region.byteLength,
        () => trackerOfRegion.collect(),
        () => trackerOfRegion.peek(),
        () => tracker.collect(),
        () => tracker.peek(),
        () => snapshot.restore(),
        () => snapshot.diff(),
        () => Region.from(memory),
        () => new DirtyTracker(memory),
        () => Snapshot.take(memory),
      ];
      for (const use of uses) assert.throws(use, DETACHED, String(use));
      assert.ok(
        live.every((byte) => byte === 1),
        'a restore that cannot be whole writes nothing',
      );
      assert.ok(
        snapshot.read().every((byte) => byte === 0),
        'the copy is still there to read',
      );
      region.close();
      assert.throws(() => region.bytes, CLOSED);
    }
  });
}

test('it reports a Wasm buffer that growth detached, when the buffer and not the memory was given (C7)', () => {
  const memory = wasmMemory(1);
  using region = Region.from(memory.buffer);
  using tracker = new DirtyTracker(memory.buffer);
  memory.grow(1);
  assert.throws(() => region.bytes, DETACHED);
  assert.throws(() => tracker.collect(), DETACHED);
});

for (const [name, detach] of Object.entries(DETACHING)) {
  test(`it stays whole, or says ERR_UFFD_DETACHED, after ${name} of a buffer it owns (C7)`, () => {
    const region = Region.allocate({ bytes: 4 * pageSize });
    region.bytes.fill(3);
    using tracker = new DirtyTracker(region);
    const { buffer } = region;
    let refused: unknown;
    try {
      detach(buffer as ArrayBuffer);
    } catch (error) {
      refused = error;
    }
    if (refused !== undefined) assert.equal((refused as Error).name, 'DataCloneError');
    if (buffer.byteLength === 0) {
      assert.equal(refused, undefined);
      assert.throws(() => region.bytes, DETACHED);
      assert.throws(() => tracker.collect(), DETACHED);
      assert.throws(() => {
        region.discard();
      }, DETACHED);
    } else {
      assert.equal(region.byteLength, 4 * pageSize);
      assert.ok(region.bytes.every((byte) => byte === 3));
      region.bytes[2 * pageSize] = 4;
      assert.deepEqual([...tracker.collect()], [{ offset: 2 * pageSize, length: pageSize }]);
    }
    tracker.close();
    region.close();
    assert.equal(region.closed, true);
  });
}

if (canTransfer) {
  test('it leaves a buffer that transfer() took away with its new owner', async () => {
    await passScenario('region', 'transferWhileTracked');
  });

  test('it goes on serving faults in a buffer that transfer() took away while it was armed', async () => {
    await passScenario('region', 'transferWhileArmed');
  });
}

test('it gives pages back on discard: they read as zero and are not resident', async () => {
  await passScenario('region', 'discardReleases');
});

for (const shared of [false, true]) {
  test(`it discards pages of a ${shared ? 'shared ' : ''}WebAssembly.Memory`, () => {
    const memory = wasmMemory(1, shared);
    const bytes = new Uint8Array(memory.buffer).fill(5);
    Region.from(memory).discard(pageSize, pageSize);
    assert.deepEqual(
      [bytes[pageSize - 1], bytes[pageSize], bytes[2 * pageSize - 1], bytes[2 * pageSize]],
      [5, 0, 0, 5],
    );
  });
}

test('it refuses to discard memory whose pages V8 shares out', () => {
  const bytes = new Uint8Array(4 * pageSize).fill(5);
  const region = Region.from(bytes);
  assert.throws(
    () => {
      region.discard(0, pageSize);
    },
    {
      name: 'TypeError',
      code: 'ERR_INVALID_ARG_VALUE',
      message: /allocated by this package or a WebAssembly\.Memory/,
    },
  );
  assert.ok(bytes.every((byte) => byte === 5));
});

test('it holds 64-bit sizes and offsets (B22)', async () => {
  const gib = 2 ** 30;
  await passScenario('region', 'isLarge', { args: [String(Math.min(5 * gib, constants.MAX_LENGTH))] });
});

test('it is released by the garbage collector when it was forgotten', async () => {
  await passScenario('region', 'collectorReleases', { nodeArgs: ['--expose-gc'], timeoutMs: 20_000 });
});

test('it makes the collector work by its weight: nobody needs to call gc()', async () => {
  await passScenario('region', 'collectorReleasesUnasked', { timeoutMs: 20_000 });
});

test('it is released by the collector together with a forgotten tracker', async () => {
  await passScenario('region', 'collectorReleasesTrackedOnes', { nodeArgs: ['--expose-gc'] });
});

test('it gives its memory back on close, not when the collector finds it', async () => {
  await passScenario('region', 'closeReleases', { nodeArgs: ['--expose-gc'] });
});

test('it can be had a thousand times', async () => {
  await passScenario('region', 'aThousandSmallOnes', { nodeArgs: ['--expose-gc'] });
});

test('it tells its own from everything else', () => {
  using region = Region.allocate({ bytes: 1 });
  assert.equal(Region.isRegion(region), true);
  for (const other of [
    {},
    null,
    undefined,
    7,
    'region',
    region.bytes,
    Object.create(Region.prototype) as unknown,
    Region,
  ]) {
    assert.equal(Region.isRegion(other), false);
  }
});

test('it prints what it is, also when it is closed or its memory is gone', () => {
  const region = Region.allocate({ bytes: 4 * pageSize });
  assert.equal(inspect(region), `Region { owned, ${4 * pageSize} bytes }`);
  assert.equal(inspect({ region }), `{ region: Region { owned, ${4 * pageSize} bytes } }`);
  region.close();
  assert.equal(inspect(region), 'Region { closed }');
  assert.equal(inspect(Region.from(wasmMemory(1))), 'Region { wasm, 65536 bytes }');
  const buffer = new ArrayBuffer(16);
  const foreign = Region.from(buffer);
  assert.equal(inspect(foreign), 'Region { foreign, 16 bytes }');
  structuredClone(buffer, { transfer: [buffer] });
  assert.match(inspect(foreign), /^Region \{ .*detached.* \}$/);
});
