// Every way to call the package wrongly, with the error that must come of it.

import { Blob } from 'node:buffer';
import { inspect } from 'node:util';
import {
  DirtyPages,
  DirtyTracker,
  Region,
  Registration,
  Snapshot,
  Userfaultfd,
  type DirtyPages as Pages,
} from '../../lib/index.js';
import { MEMORY_CASES } from './bad-memory-cases.js';

export interface Fixture {
  uffd: Userfaultfd;
  /** 8 pages, registered in both modes, the first 4 armed, the last the only one that exists. */
  region: Region;
  /** 4 pages, registered for missing faults only. */
  missingOnly: Region;
  /** A Wasm memory of 1 page of its own kind, registered, then grown to 2. */
  grown: Region;
  unregistered: Region;
  /** A buffer of V8. */
  foreign: Region;
  closedRegion: Region;
  detachedRegion: Region;
  closedUffd: Userfaultfd;
  closedTracker: DirtyTracker;
  closedSnapshot: Snapshot;
  tracked: Region;
  tracker: DirtyTracker;
  snapshot: Snapshot;
  dirty: Pages;
  page: Uint8Array;
}

export interface Case {
  title: string;
  call: (f: Fixture) => unknown;
  code: string;
  message?: RegExp;
}

export const ARMED = 4;

function detached<T>(view: (buffer: ArrayBuffer) => T): T {
  const buffer = new ArrayBuffer(4096);
  const made = view(buffer);
  structuredClone(buffer, { transfer: [buffer] });
  return made;
}

export function makeFixture(): Fixture {
  const { pageSize } = Region.allocate({ bytes: 1 });
  const uffd = Userfaultfd.open();
  const region = Region.allocate({ bytes: 8 * pageSize });
  uffd.register(region, ['missing', 'write-protect']);
  uffd.writeProtect(region, { offset: 0, length: ARMED * pageSize });
  uffd.copy(region, 7 * pageSize, new Uint8Array(pageSize).fill(7));
  const missingOnly = Region.allocate({ bytes: 4 * pageSize });
  uffd.register(missingOnly, 'missing');
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 4 });
  const grown = Region.from(memory);
  uffd.register(grown, 'write-protect');
  memory.grow(1);
  const closedRegion = Region.allocate({ bytes: pageSize });
  closedRegion.close();
  const closedUffd = Userfaultfd.open();
  closedUffd.close();
  const tracked = Region.allocate({ bytes: 8 * pageSize });
  const closedTracker = new DirtyTracker(tracked);
  closedTracker.close();
  const closedSnapshot = Snapshot.take(tracked);
  closedSnapshot.close();
  const gone = new ArrayBuffer(4096);
  const detachedRegion = Region.from(gone);
  structuredClone(gone, { transfer: [gone] });
  const tracker = new DirtyTracker(tracked);
  const snapshot = Snapshot.take(tracked);
  tracked.bytes[pageSize] = 1;
  return {
    uffd,
    region,
    missingOnly,
    grown,
    unregistered: Region.allocate({ bytes: 4 * pageSize }),
    foreign: Region.from(new Uint8Array(8 * pageSize)),
    closedRegion,
    detachedRegion,
    closedUffd,
    closedTracker,
    closedSnapshot,
    tracked,
    tracker,
    snapshot,
    dirty: tracker.peek(),
    page: new Uint8Array(pageSize),
  };
}

/** Past the types, as a JavaScript caller can. */
function call(target: object, method: string, ...args: unknown[]): unknown {
  return Reflect.apply((target as Record<string, (...args: unknown[]) => unknown>)[method]!, target, args);
}

function make(constructor: unknown, ...args: unknown[]): unknown {
  return Reflect.construct(constructor as new (...args: unknown[]) => object, args);
}

const TYPE = 'ERR_INVALID_ARG_TYPE';
const VALUE = 'ERR_INVALID_ARG_VALUE';
const RANGE = 'ERR_OUT_OF_RANGE';
const PAGE = 4096;

/** No integer from 0 to 2 ** 53 - 1. */
const NOT_OFFSETS: [name: string, value: unknown, code: string][] = [
  ['-1', -1, RANGE],
  ['-4096', -PAGE, RANGE],
  ['0.5', 0.5, RANGE],
  ['4096.5', PAGE + 0.5, RANGE],
  ['NaN', NaN, RANGE],
  ['Infinity', Infinity, RANGE],
  ['-Infinity', -Infinity, RANGE],
  ['2 ** 53', 2 ** 53, RANGE],
  ['2 ** 64', 2 ** 64, RANGE],
  ['a string', '4096', TYPE],
  ['a bigint', 4096n, TYPE],
  ['a boolean', true, TYPE],
  ['an object', {}, TYPE],
  ['an array', [0], TYPE],
  ['a symbol', Symbol('offset'), TYPE],
];

const NOT_REGIONS: [name: string, value: unknown][] = [
  ['{}', {}],
  ['null', null],
  ['undefined', undefined],
  ['a string', 'region'],
  ['a number', 4096],
  ['a Uint8Array', new Uint8Array(PAGE)],
  ['an ArrayBuffer', new ArrayBuffer(PAGE)],
  ['what only inherits from Region', Object.create(Region.prototype)],
  ['the class Region', Region],
];

const NOT_OPTIONS: [name: string, value: unknown][] = [
  ['null', null],
  ['a number', 5],
  ['a string', 'all'],
  ['an array', []],
  ['a function', (): void => undefined],
];

const RANGE_METHODS = ['writeProtect', 'unprotect', 'armedPages', 'wake', 'zeropage'] as const;

function rangeCases(method: string): Case[] {
  const on = (f: Fixture, range: unknown): unknown => call(f.uffd, method, f.region, range);
  const bad: [range: object, code: string, message: RegExp][] = [
    [{ offset: 1 }, RANGE, /"offset".*multiple of the page size, 4096.*Received 1$/],
    [{ offset: PAGE - 1, length: PAGE }, RANGE, /"offset".*multiple of the page size/],
    [{ offset: 8 * PAGE }, RANGE, /"offset".*< 32768/],
    [{ offset: 9 * PAGE, length: PAGE }, RANGE, /"offset".*< 32768/],
    [{ offset: 2 ** 52 }, RANGE, /"offset".*< 32768/],
    [{ offset: 0, length: 0 }, RANGE, /"length".*>= 1/],
    [{ offset: 0, length: 1 }, RANGE, /"length".*multiple of the page size/],
    [{ offset: 0, length: PAGE + 1 }, RANGE, /"length".*multiple of the page size/],
    [{ offset: 0, length: 9 * PAGE }, RANGE, /"length".*<= 32768/],
    [{ offset: 7 * PAGE, length: 2 * PAGE }, RANGE, /"length".*<= 4096/],
    [{ offset: PAGE, length: 2 ** 53 - PAGE }, RANGE, /"length"/],
    [{ offset: 0, size: PAGE }, VALUE, /"range".*no property "size"; known: offset, length/],
    [{ start: 0, end: PAGE }, VALUE, /known: offset, length/],
  ];
  return [
    ...NOT_OFFSETS.flatMap(([name, value, code]): Case[] => [
      { title: `offset ${name}`, call: (f) => on(f, { offset: value }), code, message: /"offset"/ },
      { title: `length ${name}`, call: (f) => on(f, { length: value }), code, message: /"length"/ },
    ]),
    ...bad.map(([range, code, message]): Case => ({
      title: `range ${JSON.stringify(range)}`,
      call: (f) => on(f, range),
      code,
      message,
    })),
    ...NOT_OPTIONS.map(([name, value]): Case => ({
      title: `${name} as range`,
      call: (f) => on(f, value),
      code: TYPE,
      message: /"range" argument must be an object/,
    })),
    {
      title: 'a part that came with growth, after it was registered',
      call: (f) => call(f.uffd, method, f.grown, { offset: 65_536, length: PAGE }),
      code: RANGE,
      message: /"offset".*< 65536/,
    },
    {
      title: 'a range that reaches into what came with growth',
      call: (f) => call(f.uffd, method, f.grown, { offset: 65_536 - PAGE, length: 2 * PAGE }),
      code: RANGE,
      message: /"length".*<= 4096/,
    },
    ...regionCases((f, region) => call(f.uffd, method, region)),
    closedUffd((f) => call(f.closedUffd, method, f.region)),
  ];
}

/** What every method says to something that is no region it knows. */
function regionCases(use: (f: Fixture, region: unknown) => unknown): Case[] {
  return [
    ...NOT_REGIONS.map(([name, value]): Case => ({
      title: `${name} as region`,
      call: (f) => use(f, value),
      code: TYPE,
      message: /"region" argument must be a Region/,
    })),
    {
      title: 'a region that is not registered',
      call: (f) => use(f, f.unregistered),
      code: 'ERR_UFFD_NOT_REGISTERED',
      message: /not registered/,
    },
    { title: 'a region of V8 memory', call: (f) => use(f, f.foreign), code: 'ERR_UFFD_NOT_REGISTERED' },
  ];
}

function goneRegionCases(use: (f: Fixture, region: Region) => unknown): Case[] {
  return [
    {
      title: 'a closed region',
      call: (f) => use(f, f.closedRegion),
      code: 'ERR_UFFD_CLOSED',
      message: /region is closed/,
    },
    {
      title: 'a detached region',
      call: (f) => use(f, f.detachedRegion),
      code: 'ERR_UFFD_DETACHED',
      message: /detached/,
    },
  ];
}

function closedUffd(use: (f: Fixture) => unknown): Case {
  return {
    title: 'on a closed userfaultfd',
    call: use,
    code: 'ERR_UFFD_CLOSED',
    message: /userfaultfd is closed/,
  };
}

function copyCases(): Case[] {
  const copy = (f: Fixture, offset: unknown, bytes: unknown, ...rest: unknown[]): unknown =>
    call(f.uffd, 'copy', f.region, offset, bytes, ...rest);
  return [
    ...NOT_OFFSETS.map(([name, value, code]): Case => ({
      title: `offset ${name}`,
      call: (f) => copy(f, value, f.page),
      code,
      message: /"offset"/,
    })),
    { title: 'no offset', call: (f) => copy(f, undefined, f.page), code: TYPE, message: /"offset"/ },
    {
      title: 'an unaligned offset',
      call: (f) => copy(f, 100, f.page),
      code: RANGE,
      message: /"offset".*multiple/,
    },
    {
      title: 'an offset at the end',
      call: (f) => copy(f, 8 * PAGE, f.page),
      code: RANGE,
      message: /"offset".*< 32768/,
    },
    {
      title: 'bytes that reach over the end',
      call: (f) => copy(f, 7 * PAGE, new Uint8Array(2 * PAGE)),
      code: RANGE,
      message: /"length".*<= 4096/,
    },
    {
      title: 'bytes that reach into what came with growth',
      call: (f) => f.uffd.copy(f.grown, 65_536 - PAGE, new Uint8Array(2 * PAGE)),
      code: RANGE,
    },
    ...[1, 100, PAGE - 1, PAGE + 1].map((bytes): Case => ({
      title: `${bytes} bytes`,
      call: (f) => copy(f, 4 * PAGE, new Uint8Array(bytes)),
      code: RANGE,
      message: /"bytes\.byteLength".*multiple of the page size/,
    })),
    {
      title: 'no bytes',
      call: (f) => copy(f, 4 * PAGE, new Uint8Array(0)),
      code: VALUE,
      message: /"bytes".*empty/,
    },
    ...[null, undefined, 'text', 4096, [1, 2], {}, new Blob(['text'])].map((bytes): Case => ({
      title: `${inspect(bytes)} as bytes`,
      call: (f) => copy(f, 4 * PAGE, bytes),
      code: TYPE,
      message: /"bytes" argument must be an ArrayBuffer/,
    })),
    ...(
      [
        ['ArrayBuffer', (buffer: ArrayBuffer): unknown => buffer],
        ['Uint8Array', (buffer: ArrayBuffer): unknown => new Uint8Array(buffer)],
        ['Float64Array', (buffer: ArrayBuffer): unknown => new Float64Array(buffer)],
        ['DataView', (buffer: ArrayBuffer): unknown => new DataView(buffer)],
      ] as const
    ).map(([name, view]): Case => ({
      title: `a detached ${name} as bytes`,
      call: (f) => copy(f, 4 * PAGE, detached(view)),
      code: 'ERR_UFFD_DETACHED',
    })),
    ...[Uint8Array, ArrayBuffer, DataView].map((type): Case => ({
      title: `what only inherits from ${type.name} as bytes`,
      call: (f) => copy(f, 4 * PAGE, Object.create(type.prototype)),
      code: TYPE,
      message: /"bytes"/,
    })),
    ...NOT_OPTIONS.map(([name, value]): Case => ({
      title: `${name} as options`,
      call: (f) => copy(f, 4 * PAGE, f.page, value),
      code: TYPE,
      message: /"options"/,
    })),
    {
      title: 'an unknown option',
      call: (f) => copy(f, 4 * PAGE, f.page, { writeprotect: true }),
      code: VALUE,
      message: /no property "writeprotect"; known: writeProtect, wake/,
    },
    {
      title: "writeProtect: 'yes'",
      call: (f) => copy(f, 4 * PAGE, f.page, { writeProtect: 'yes' }),
      code: TYPE,
      message: /"options\.writeProtect".*boolean/,
    },
    {
      title: 'wake: 1',
      call: (f) => copy(f, 4 * PAGE, f.page, { wake: 1 }),
      code: TYPE,
      message: /"options\.wake"/,
    },
    {
      title: 'writeProtect where only missing faults are registered',
      call: (f) => f.uffd.copy(f.missingOnly, 0, f.page, { writeProtect: true }),
      code: 'ERR_UFFD_NOT_REGISTERED',
      message: /"write-protect"/,
    },
    {
      title: 'onto a page that exists',
      call: (f) => copy(f, 7 * PAGE, f.page),
      code: 'EEXIST',
      message: /UFFDIO_COPY.*exists already/,
    },
    ...regionCases((f, region) => call(f.uffd, 'copy', region, 0, f.page)),
    ...goneRegionCases((f, region) => f.uffd.copy(region, 0, f.page)),
    closedUffd((f) => f.closedUffd.copy(f.region, 4 * PAGE, f.page)),
  ];
}

/** Sources of missing pages; the features are asked for before, so that only the source is wrong. */
function sourceCases(): Case[] {
  const source = (title: string, make: (f: Fixture) => unknown, code: string, message: RegExp): Case => ({
    title: `source: ${title}`,
    call: (f) => {
      using uffd = Userfaultfd.open({ features: ['EVENT_REMOVE', 'POISON'] });
      const options = { source: make(f) } as { source: 'zero' };
      return uffd.register(Region.allocate({ bytes: 2 * 4096 }), 'missing', options);
    },
    code,
    message,
  });
  return [
    source('a number', () => 5, TYPE, /options\.source/),
    source('null', () => null, TYPE, /options\.source/),
    source('an unknown word', () => 'zeros', TYPE, /options\.source/),
    source('an unknown property', (f) => ({ region: f.unregistered, at: 5 }), VALUE, /known: region, offset/),
    source('no region', () => ({ offset: 5 }), TYPE, /options\.source\.region/),
    source('a negative offset', (f) => ({ region: f.unregistered, offset: -1 }), RANGE, /source\.offset/),
    source(
      'an offset beyond its end',
      (f) => ({ region: f.unregistered, offset: 1e9 }),
      RANGE,
      /source\.offset/,
    ),
    source('memory of V8', (f) => f.foreign, VALUE, /Region\.allocate/),
    source(
      'plain Wasm memory',
      () => Region.from(new WebAssembly.Memory({ initial: 1 })),
      VALUE,
      /may move when it grows/,
    ),
    source('a closed region', (f) => f.closedRegion, 'ERR_UFFD_CLOSED', /closed/),
    source('a region that waits itself', (f) => f.missingOnly, 'ERR_UFFD_SOURCE_REGISTERED', /could wait/),
    source('a file of another type', () => ({ file: true }), TYPE, /path or a file descriptor/),
    source(
      'a length beyond the end',
      () => ({ file: process.execPath, length: 1e12 }),
      RANGE,
      /source\.length/,
    ),
    source(
      'an offset beyond the end',
      () => ({ file: process.execPath, offset: 1e12, length: 1 }),
      RANGE,
      /source/,
    ),
    {
      title: 'source: in mode write-protect only',
      call: (f) =>
        call(f.uffd, 'register', f.unregistered, 'write-protect', { source: Region.allocate({ bytes: 1 }) }),
      code: VALUE,
      message: /belongs to mode "missing"/,
    },
  ];
}

function registerCases(): Case[] {
  const register = (f: Fixture, ...rest: unknown[]): unknown =>
    call(f.uffd, 'register', f.unregistered, ...rest);
  return [
    ...['wp', 'MISSING', '', '__proto__', 'toString'].map((mode): Case => ({
      title: `mode '${mode}'`,
      call: (f) => register(f, mode),
      code: VALUE,
      message: /"mode" argument must be one of missing, write-protect, minor/,
    })),
    {
      title: 'one unknown mode of two',
      call: (f) => register(f, ['missing', 'dirty']),
      code: VALUE,
      message: /missing, write-protect, minor\. Received 'dirty'/,
    },
    { title: 'no modes', call: (f) => register(f, []), code: VALUE, message: /missing, write-protect/ },
    ...[undefined, null, 1, {}, [['missing']]].map((mode): Case => ({
      title: `${inspect(mode)} as mode`,
      call: (f) => register(f, mode),
      code: TYPE,
      message: /missing, write-protect/,
    })),
    {
      title: 'mode minor of private memory',
      call: (f) => register(f, 'minor'),
      code: 'EINVAL',
      message: /UFFDIO_REGISTER.*cannot be registered in this mode/,
    },
    {
      title: 'mode minor without its feature',
      call: () => {
        using uffd = Userfaultfd.open({ optionalFeatures: [] });
        uffd.register(Region.allocate({ bytes: 1 }), 'minor');
      },
      code: 'ERR_UFFD_FEATURE',
      message: /MINOR_SHMEM or MINOR_HUGETLBFS/,
    },
    {
      title: 'a handler without THREAD_ID',
      call: () => {
        using uffd = Userfaultfd.open({ optionalFeatures: [] });
        uffd.register(Region.allocate({ bytes: 1 }), 'missing', { resolve: 'handler' });
      },
      code: 'ERR_UFFD_FEATURE',
      message: /THREAD_ID/,
    },
    {
      title: 'poison without POISON',
      call: () => {
        using uffd = Userfaultfd.open({ optionalFeatures: [] });
        uffd.register(Region.allocate({ bytes: 1 }), 'missing', { fallback: 'poison' });
      },
      code: 'ERR_UFFD_FEATURE',
      message: /POISON/,
    },
    {
      title: 'a source without EVENT_REMOVE',
      call: (f) => register(f, 'missing', { source: Region.allocate({ bytes: 1 }) }),
      code: 'ERR_UFFD_FEATURE',
      message: /EVENT_REMOVE/,
    },
    {
      title: 'a deadline without a handler',
      call: (f) => register(f, 'missing', { deadlineMs: 10 }),
      code: VALUE,
      message: /deadlineMs.*belongs to resolve "handler"/,
    },
    ...[0, -1, 1.5, NaN, Infinity, 2 ** 31].map((deadlineMs): Case => ({
      title: `a deadline of ${deadlineMs} ms`,
      call: (f) => register(f, 'missing', { resolve: 'handler', deadlineMs }),
      code: RANGE,
      message: /deadlineMs/,
    })),
    {
      title: 'an unknown fallback',
      call: (f) => register(f, 'missing', { fallback: 'unprotect' }),
      code: VALUE,
      message: /options\.fallback.*zeropage, poison/,
    },
    ...sourceCases(),
    {
      title: 'an unknown way to resolve',
      call: (f) => register(f, 'missing', { resolve: 'javascript' }),
      code: VALUE,
      message: /"options\.resolve".*native/,
    },
    {
      title: 'an unknown option',
      call: (f) => register(f, 'missing', { deadline: 5 }),
      code: VALUE,
      message: /no property "deadline"; known: resolve/,
    },
    ...NOT_OPTIONS.map(([name, value]): Case => ({
      title: `${name} as options`,
      call: (f) => register(f, 'missing', value),
      code: TYPE,
    })),
    ...NOT_REGIONS.map(([name, value]): Case => ({
      title: `${name} as region`,
      call: (f) => call(f.uffd, 'register', value, 'missing'),
      code: TYPE,
      message: /"region" argument must be a Region/,
    })),
    {
      title: 'V8 memory, which shares its pages',
      call: (f) => f.uffd.register(f.foreign, 'write-protect'),
      code: VALUE,
      message: /Region\.allocate\(\).*DirtyTracker/,
    },
    {
      title: 'a Wasm memory without pages',
      call: (f) => f.uffd.register(Region.from(new WebAssembly.Memory({ initial: 0 })), 'write-protect'),
      code: VALUE,
      message: /no bytes/,
    },
    {
      title: 'the same region again',
      call: (f) => f.uffd.register(f.region, 'missing'),
      code: 'ERR_UFFD_BUSY',
    },
    {
      title: 'what is tracked',
      call: (f) => f.uffd.register(f.tracked, 'write-protect'),
      code: 'ERR_UFFD_BUSY',
    },
    ...goneRegionCases((f, region) => f.uffd.register(region, 'missing')),
    closedUffd((f) => f.closedUffd.register(f.unregistered, 'missing')),
  ];
}

function otherUffdCases(): Record<string, Case[]> {
  return {
    'uffd.unregister()': [
      ...regionCases((f, region) => call(f.uffd, 'unregister', region)),
      closedUffd((f) => {
        f.closedUffd.unregister(f.region);
      }),
    ],
    'uffd.writeProtect() and unprotect() in another mode': [
      ...(['writeProtect', 'unprotect'] as const).map((method): Case => ({
        title: `${method} where only missing faults are registered`,
        call: (f) => {
          f.uffd[method](f.missingOnly);
        },
        code: 'ERR_UFFD_NOT_REGISTERED',
        message: /"write-protect"/,
      })),
      ...goneRegionCases((f, region) => {
        f.uffd.writeProtect(region);
      }),
      ...goneRegionCases((f, region) => f.uffd.armedPages(region)),
    ],
    'the options of unprotect() and zeropage()': (['unprotect', 'zeropage'] as const).flatMap(
      (method): Case[] => [
        {
          title: `${method} with an unknown option`,
          call: (f) => call(f.uffd, method, f.region, undefined, { wakeup: false }),
          code: VALUE,
          message: /no property "wakeup"; known: wake/,
        },
        {
          title: `${method} with wake: 'no'`,
          call: (f) => call(f.uffd, method, f.region, undefined, { wake: 'no' }),
          code: TYPE,
          message: /"options\.wake".*boolean/,
        },
        ...NOT_OPTIONS.map(([name, value]): Case => ({
          title: `${method} with ${name} as options`,
          call: (f) => call(f.uffd, method, f.region, undefined, value),
          code: TYPE,
          message: /"options"/,
        })),
      ],
    ),
    'uffd.zeropage() on what exists': [
      {
        title: 'an armed hole',
        call: (f) => f.uffd.zeropage(f.region, { offset: 0, length: PAGE }),
        code: 'EEXIST',
        message: /UFFDIO_ZEROPAGE.*exists already/,
      },
    ],
    'uffd.events()': [
      ...[0, -1, 1.5, NaN, Infinity, 65_537].map((batch): Case => ({
        title: `batch ${batch}`,
        call: (f) => f.uffd.events({ batch }),
        code: RANGE,
        message: /"options\.batch"/,
      })),
      {
        title: "batch '5'",
        call: (f) => call(f.uffd, 'events', { batch: '5' }),
        code: TYPE,
        message: /"options\.batch"/,
      },
      ...[{}, 'abort', 5, new EventTarget()].map((signal): Case => ({
        title: `${typeof signal} as signal`,
        call: (f) => call(f.uffd, 'events', { signal }),
        code: TYPE,
        message: /"options\.signal".*AbortSignal/,
      })),
      {
        title: 'an unknown option',
        call: (f) => call(f.uffd, 'events', { interval: 5 }),
        code: VALUE,
        message: /no property "interval"; known: signal, batch/,
      },
      ...NOT_OPTIONS.map(([name, value]): Case => ({
        title: `${name} as options`,
        call: (f) => call(f.uffd, 'events', value),
        code: TYPE,
      })),
      closedUffd((f) => f.closedUffd.events()),
      closedUffd((f) => f.closedUffd[Symbol.asyncIterator]()),
    ],
  };
}

const FEATURE_LIST = /PAGEFAULT_FLAG_WP, EVENT_FORK,.*WP_UNPOPULATED,.*WP_ASYNC, MOVE/;

function openCases(): Case[] {
  const open = (options: unknown): unknown => call(Userfaultfd, 'open', options);
  return [
    ...(['features', 'optionalFeatures'] as const).flatMap((name): Case[] => [
      ...['WP', 'wp_unpopulated', 'UFFD_FEATURE_WP_UNPOPULATED', '', 'BIT_40'].map((feature): Case => ({
        title: `${name}: ['${feature}']`,
        call: () => open({ [name]: ['WP_UNPOPULATED', feature] }),
        code: VALUE,
        message: FEATURE_LIST,
      })),
      ...[1, null, undefined, {}].map((feature): Case => ({
        title: `${name}: [${inspect(feature)}]`,
        call: () => open({ [name]: [feature] }),
        code: VALUE,
        message: FEATURE_LIST,
      })),
      ...['WP_UNPOPULATED', 5, { WP_UNPOPULATED: true }, new Set(['WP_UNPOPULATED'])].map(
        (features): Case => ({
          title: `${name}: ${inspect(features)}`,
          call: () => open({ [name]: features }),
          code: TYPE,
          message: new RegExp(`"options\\.${name}".*array of feature names`),
        }),
      ),
    ]),
    ...['yes', 'Auto', 1, 0, {}, []].map((userModeOnly): Case => ({
      title: `userModeOnly: ${JSON.stringify(userModeOnly)}`,
      call: () => open({ userModeOnly }),
      code: VALUE,
      message: /"options\.userModeOnly".*true, false or 'auto'/,
    })),
    {
      title: 'an unknown option',
      call: () => open({ usermodeonly: true }),
      code: VALUE,
      message: /no property "usermodeonly"; known: features, optionalFeatures, userModeOnly/,
    },
    ...NOT_OPTIONS.map(([name, value]): Case => ({
      title: `${name} as options`,
      call: () => open(value),
      code: TYPE,
    })),
  ];
}

function allocateCases(): Case[] {
  const allocate = (...args: unknown[]): unknown => call(Region, 'allocate', ...args);
  return [
    ...NOT_OFFSETS.map(([name, value, code]): Case => ({
      title: `bytes ${name}`,
      call: () => allocate({ bytes: value }),
      code,
      message: /"options\.bytes"/,
    })),
    { title: 'bytes 0', call: () => allocate({ bytes: 0 }), code: RANGE, message: /"options\.bytes".*>= 1/ },
    { title: 'bytes null', call: () => allocate({ bytes: null }), code: TYPE, message: /"options\.bytes"/ },
    { title: 'no bytes', call: () => allocate({}), code: TYPE, message: /"options\.bytes"/ },
    { title: 'no options', call: () => allocate(), code: TYPE, message: /"options\.bytes"/ },
    { title: '2 ** 53 - 1', call: () => allocate({ bytes: Number.MAX_SAFE_INTEGER }), code: RANGE },
    ...['shmem', 'Anonymous', ''].map((backing): Case => ({
      title: `backing '${backing}'`,
      call: () => allocate({ bytes: 1, backing }),
      code: VALUE,
      message: /"options\.backing".*anonymous/,
    })),
    { title: 'backing 5', call: () => allocate({ bytes: 1, backing: 5 }), code: TYPE, message: /anonymous/ },
    {
      title: 'an unknown option',
      call: () => allocate({ size: 1 }),
      code: VALUE,
      message: /no property "size"; known: bytes, backing/,
    },
    ...NOT_OPTIONS.map(([name, value]): Case => ({
      title: `${name} as options`,
      call: () => allocate(value),
      code: TYPE,
    })),
  ];
}

const NOT_MEMORY: [name: string, value: unknown][] = [
  ['{}', {}],
  ['null', null],
  ['undefined', undefined],
  ['a string', 'memory'],
  ['a number', 4096],
  ['a boolean', true],
  ['a Blob', new Blob(['text'])],
  ['{ buffer, grow }', { buffer: new ArrayBuffer(8), grow: (): number => 0 }],
  ['what only inherits from WebAssembly.Memory', Object.create(WebAssembly.Memory.prototype)],
  ['what only inherits from Region', Object.create(Region.prototype)],
];

function memoryCases(use: (memory: unknown) => unknown): Case[] {
  return [
    ...NOT_MEMORY.map(([name, value]): Case => ({
      title: `${name} as memory`,
      call: () => use(value),
      code: TYPE,
      message: /"memory" argument must be a (?:Region, )?WebAssembly\.Memory, ArrayBuffer/,
    })),
    ...[new ArrayBuffer(0), new SharedArrayBuffer(0), new Uint8Array(8).subarray(8), Buffer.alloc(0)].map(
      (empty): Case => ({
        title: `an empty ${empty.constructor.name}`,
        call: () => use(empty),
        code: VALUE,
        message: /"memory" argument has no bytes/,
      }),
    ),
    { title: 'a detached buffer', call: () => use(detached((buffer) => buffer)), code: 'ERR_UFFD_DETACHED' },
  ];
}

function trackAndSnapshotCases(): Record<string, Case[]> {
  const track = (...args: unknown[]): unknown => make(DirtyTracker, ...args);
  const take = (...args: unknown[]): unknown => call(Snapshot, 'take', ...args);
  const several = (use: (memory: unknown) => unknown): Case[] => [
    { title: 'an empty array', call: () => use([]), code: VALUE, message: /"memory".*empty array/ },
    { title: 'one bad of two', call: (f) => use([f.unregistered, {}]), code: TYPE, message: /"memory\[1\]"/ },
    {
      title: 'one closed of two',
      call: (f) => use([f.unregistered, f.closedRegion]),
      code: 'ERR_UFFD_CLOSED',
    },
    {
      title: 'one detached of two',
      call: (f) => use([f.unregistered, f.detachedRegion]),
      code: 'ERR_UFFD_DETACHED',
    },
    {
      title: 'one that is registered, of two',
      call: (f) => use([f.unregistered, f.region]),
      code: 'ERR_UFFD_BUSY',
    },
    ...goneRegionCases((_, region) => use(region)),
  ];
  return {
    'Region.from()': [
      ...memoryCases((memory) => call(Region, 'from', memory)),
      { title: 'a Region', call: (f) => call(Region, 'from', f.region), code: TYPE },
    ],
    'new DirtyTracker()': [
      ...memoryCases(track),
      ...several(track),
      ...['soft-dirty', 'AUTO', ''].map((engine): Case => ({
        title: `engine '${engine}'`,
        call: (f) => track(f.unregistered, { engine }),
        code: VALUE,
        message: /"options\.engine" argument must be one of auto, wp-async/,
      })),
      {
        title: 'engine 5',
        call: (f) => track(f.unregistered, { engine: 5 }),
        code: TYPE,
        message: /auto, wp-async/,
      },
      {
        title: 'an unknown option',
        call: (f) => track(f.unregistered, { mode: 'wp-async' }),
        code: VALUE,
        message: /no property "mode"; known: engine/,
      },
      ...NOT_OPTIONS.map(([name, value]): Case => ({
        title: `${name} as options`,
        call: (f) => track(f.unregistered, value),
        code: TYPE,
      })),
    ],
    'Snapshot.take()': [
      ...memoryCases(take),
      ...several(take),
      ...['magic', 'COPY', ''].map((mode): Case => ({
        title: `mode '${mode}'`,
        call: (f) => take(f.unregistered, { mode }),
        code: VALUE,
        message: /"options\.mode" argument must be one of auto, copy-on-write, copy/,
      })),
      {
        title: 'mode 5',
        call: (f) => take(f.unregistered, { mode: 5 }),
        code: TYPE,
        message: /auto, copy-on-write, copy/,
      },
      {
        title: 'an unknown option',
        call: (f) => take(f.unregistered, { resolvers: 'loop' }),
        code: VALUE,
        message: /no property "resolvers"; known: mode/,
      },
      {
        title: 'a resolver without the mode that has one',
        call: (f) => take(f.unregistered, { resolver: 'loop' }),
        code: VALUE,
        message: /"options\.resolver" argument needs the mode 'copy-on-write'/,
      },
      ...NOT_OPTIONS.map(([name, value]): Case => ({
        title: `${name} as options`,
        call: (f) => take(f.unregistered, value),
        code: TYPE,
      })),
    ],
    'snapshot.read()': [
      ...NOT_OFFSETS.flatMap(([name, value, code]): Case[] => [
        { title: `offset ${name}`, call: (f) => call(f.snapshot, 'read', value), code, message: /"offset"/ },
        {
          title: `length ${name}`,
          call: (f) => call(f.snapshot, 'read', 0, value),
          code,
          message: /"length"/,
        },
        {
          title: `memory ${name}`,
          call: (f) => call(f.snapshot, 'read', 0, 1, value),
          code,
          message: /"memory"/,
        },
      ]),
      {
        title: 'an offset at the end',
        call: (f) => f.snapshot.read(8 * PAGE),
        code: RANGE,
        message: /< 32768/,
      },
      { title: 'a length of 0', call: (f) => f.snapshot.read(0, 0), code: RANGE, message: /"length".*>= 1/ },
      {
        title: 'a length over the end',
        call: (f) => f.snapshot.read(8 * PAGE - 1, 2),
        code: RANGE,
        message: /<= 1/,
      },
      { title: 'memory 1 of one', call: (f) => f.snapshot.read(0, 1, 1), code: RANGE, message: /"memory"/ },
    ],
    'tracker.watch()': [
      ...[0, -1, NaN, Infinity, 2 ** 31].map((intervalMs): Case => ({
        title: `intervalMs ${intervalMs}`,
        call: (f) => f.tracker.watch({ intervalMs }),
        code: RANGE,
        message: /"options\.intervalMs"/,
      })),
      ...['100', {}, 100n].map((intervalMs): Case => ({
        title: `${typeof intervalMs} as intervalMs`,
        call: (f) => call(f.tracker, 'watch', { intervalMs }),
        code: TYPE,
        message: /"options\.intervalMs"/,
      })),
      ...[{}, 'abort', 5].map((signal): Case => ({
        title: `${typeof signal} as signal`,
        call: (f) => call(f.tracker, 'watch', { signal }),
        code: TYPE,
        message: /"options\.signal".*AbortSignal/,
      })),
      {
        title: 'an unknown option',
        call: (f) => call(f.tracker, 'watch', { interval: 5 }),
        code: VALUE,
        message: /no property "interval"; known: intervalMs, signal/,
      },
      ...NOT_OPTIONS.map(([name, value]): Case => ({
        title: `${name} as options`,
        call: (f) => call(f.tracker, 'watch', value),
        code: TYPE,
      })),
    ],
    'dirtyPages.has() and of()': [
      ...NOT_OFFSETS.flatMap(([name, value, code]): Case[] => [
        { title: `has(${name})`, call: (f) => call(f.dirty, 'has', value), code, message: /"offset"/ },
        { title: `has(0, ${name})`, call: (f) => call(f.dirty, 'has', 0, value), code, message: /"memory"/ },
        { title: `of(${name})`, call: (f) => call(f.dirty, 'of', value), code, message: /"memory"/ },
      ]),
      { title: 'has()', call: (f) => call(f.dirty, 'has'), code: TYPE, message: /"offset"/ },
      { title: 'memory 1 of one', call: (f) => f.dirty.of(1), code: RANGE, message: /"memory".*<= 0/ },
    ],
    'region.discard()': [
      ...NOT_OFFSETS.flatMap(([name, value, code]): Case[] => [
        {
          title: `offset ${name}`,
          call: (f) => call(f.tracked, 'discard', value),
          code,
          message: /"offset"/,
        },
        {
          title: `length ${name}`,
          call: (f) => call(f.tracked, 'discard', 0, value),
          code,
          message: /"length"/,
        },
      ]),
      ...(
        [
          [1, PAGE],
          [0, 1],
          [0, 0],
          [8 * PAGE, PAGE],
          [7 * PAGE, 2 * PAGE],
        ] as const
      ).map(([offset, length]): Case => ({
        title: `${offset}, ${length}`,
        call: (f) => {
          f.tracked.discard(offset, length);
        },
        code: RANGE,
      })),
      {
        title: 'V8 memory',
        call: (f) => {
          f.foreign.discard(0, PAGE);
        },
        code: VALUE,
        message: /allocated by this package/,
      },
      ...goneRegionCases((_, region) => {
        region.discard();
      }),
    ],
    'a closed tracker or snapshot': [
      ...(['collect', 'peek', 'watch'] as const).map((method): Case => ({
        title: `tracker.${method}()`,
        call: (f) => f.closedTracker[method](),
        code: 'ERR_UFFD_CLOSED',
        message: /tracker is closed/,
      })),
      ...(['restore', 'diff', 'read'] as const).map((method): Case => ({
        title: `snapshot.${method}()`,
        call: (f) => f.closedSnapshot[method](),
        code: 'ERR_UFFD_CLOSED',
        message: /snapshot is closed/,
      })),
    ],
  };
}

/** By what is called. */
export const CASES: Record<string, Case[]> = {
  'Region.allocate()': allocateCases(),
  'Userfaultfd.open()': openCases(),
  'uffd.register()': registerCases(),
  ...Object.fromEntries(RANGE_METHODS.map((method) => [`uffd.${method}()`, rangeCases(method)])),
  'uffd.copy()': copyCases(),
  ...otherUffdCases(),
  ...trackAndSnapshotCases(),
  ...MEMORY_CASES,
};

/** `undefined` leaves an option out; `null` is a mistake like any other value. */
export const NULLS: Case[] = [
  ...(['offset', 'length'] as const).flatMap((name) =>
    RANGE_METHODS.map((method): Case => ({
      title: `uffd.${method}(region, { ${name}: null })`,
      call: (f) => call(f.uffd, method, f.region, { [name]: null }),
      code: TYPE,
      message: new RegExp(`"${name}"`),
    })),
  ),
  {
    title: 'open({ features: null })',
    call: () => call(Userfaultfd, 'open', { features: null }),
    code: TYPE,
  },
  {
    title: 'open({ optionalFeatures: null })',
    call: () => call(Userfaultfd, 'open', { optionalFeatures: null }),
    code: TYPE,
  },
  {
    title: 'open({ userModeOnly: null })',
    call: () => call(Userfaultfd, 'open', { userModeOnly: null }),
    code: VALUE,
  },
  {
    title: 'register(region, mode, { resolve: null })',
    call: (f) => call(f.uffd, 'register', f.region, 'missing', { resolve: null }),
    code: TYPE,
  },
  { title: 'events({ batch: null })', call: (f) => call(f.uffd, 'events', { batch: null }), code: TYPE },
  { title: 'events({ signal: null })', call: (f) => call(f.uffd, 'events', { signal: null }), code: TYPE },
  {
    title: 'watch({ intervalMs: null })',
    call: (f) => call(f.tracker, 'watch', { intervalMs: null }),
    code: TYPE,
  },
  {
    title: 'new DirtyTracker(memory, { engine: null })',
    call: (f) => make(DirtyTracker, f.unregistered, { engine: null }),
    code: TYPE,
  },
  {
    title: 'Snapshot.take(memory, { mode: null })',
    call: (f) => call(Snapshot, 'take', f.unregistered, { mode: null }),
    code: TYPE,
  },
  { title: 'snapshot.read(0, null)', call: (f) => call(f.snapshot, 'read', 0, null), code: TYPE },
  {
    title: 'Region.allocate({ bytes, backing: null })',
    call: () => call(Region, 'allocate', { bytes: 1, backing: null }),
    code: TYPE,
  },
  { title: 'region.discard(0, null)', call: (f) => call(f.tracked, 'discard', 0, null), code: TYPE },
  {
    title: 'copy(region, null, bytes)',
    call: (f) => call(f.uffd, 'copy', f.region, null, f.page),
    code: TYPE,
  },
];

/** Objects of these come from methods; made by hand they would be half an object. */
export const CONSTRUCTORS: [name: string, make: () => unknown][] = [
  ['Region', (): unknown => make(Region, 'owned', new ArrayBuffer(4096))],
  ['Userfaultfd', (): unknown => make(Userfaultfd)],
  ['Registration', (): unknown => make(Registration)],
  ['Snapshot', (): unknown => make(Snapshot)],
  ['DirtyPages', (): unknown => make(DirtyPages)],
];
