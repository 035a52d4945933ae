// Every way to ask wrongly for memory of a kind, or for a region of another thread.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { inspect } from 'node:util';
import { Region } from '../../lib/index.js';
import type { Case, Fixture } from './bad-input-cases.js';

const TYPE = 'ERR_INVALID_ARG_TYPE';
const VALUE = 'ERR_INVALID_ARG_VALUE';
const RANGE = 'ERR_OUT_OF_RANGE';
const HANDLE = 'ERR_UFFD_HANDLE';
const FILE_BYTES = 3 * 4096 + 5;

/** Past the types, as a JavaScript caller can. */
const allocate = (options: object): Region => Region.allocate(options as { bytes: number });
const attach = (handle: unknown): Region => Region.attach(handle as Region['handle']);

function asked(options: object, code: string, message: RegExp): Case {
  return { title: inspect(options), call: () => allocate({ bytes: 4096, ...options }), code, message };
}

/** A file of its own for each call. */
function ofFile(
  title: string,
  make: (file: string) => void,
  options: object,
  code: string,
  message: RegExp,
): Case {
  return {
    title: `${title}, ${inspect(options)}`,
    call: () => {
      const directory = mkdtempSync(path.join(tmpdir(), 'userfaultfd-'));
      const file = path.join(directory, 'file');
      try {
        make(file);
        return allocate({ backing: 'file', path: file, ...options });
      } finally {
        rmSync(directory, { recursive: true });
      }
    },
    code,
    message,
  };
}

const writeBytes = (file: string): void => {
  writeFileSync(file, new Uint8Array(FILE_BYTES));
};

function kindCases(): Case[] {
  const notForIt = /options\.\w+" argument is for the backing/;
  return [
    asked({ mapping: 'both' }, VALUE, /"options\.mapping".*private, shared/),
    asked({ mapping: 5 }, TYPE, /"options\.mapping".*private, shared/),
    asked({ mapping: null }, TYPE, /"options\.mapping"/),
    asked({ mapping: 'shared' }, VALUE, /'private' for the backing anonymous/),
    asked({ backing: 'memfd', hugePages: 'always' }, VALUE, /"options\.hugePages".*never, advise/),
    asked({ hugePages: true }, TYPE, /"options\.hugePages".*never, advise/),
    asked({ hugePages: null }, TYPE, /"options\.hugePages"/),
    asked({ backing: 'hugetlb', hugePages: 'advise' }, VALUE, notForIt),
    asked({ hugePageSize: 2 ** 21 }, VALUE, notForIt),
    asked({ backing: 'memfd', hugePageSize: 2 ** 21 }, VALUE, notForIt),
    ...[4096, 3, 2 ** 21 + 1, 2 ** 52].map((hugePageSize) =>
      asked({ backing: 'hugetlb', hugePageSize }, RANGE, /"options\.hugePageSize".*one of.*2097152/),
    ),
    ...[-1, NaN, 0.5].map((hugePageSize) =>
      asked({ backing: 'hugetlb', hugePageSize }, RANGE, /"options\.hugePageSize"/),
    ),
    ...['2097152', null, 2097152n].map((hugePageSize) =>
      asked({ backing: 'hugetlb', hugePageSize }, TYPE, /"options\.hugePageSize".*number/),
    ),
    ...['yes', 1, null].map((shared) => asked({ shared }, TYPE, /"options\.shared".*boolean/)),
    asked({ path: '/etc/hostname' }, VALUE, notForIt),
    asked({ backing: 'memfd', fileOffset: 0 }, VALUE, notForIt),
    ...['memfd', 'hugetlb'].map((backing): Case => ({
      title: `${backing} of 0 bytes`,
      call: () => allocate({ bytes: 0, backing }),
      code: RANGE,
      message: /"options\.bytes"/,
    })),
    ...[false, true].map((shared): Case => ({
      title: `hugetlb that would be rounded up to too much, shared: ${shared}`,
      call: () => allocate({ bytes: Number.MAX_SAFE_INTEGER, backing: 'hugetlb', shared }),
      code: RANGE,
      message: /"options\.bytes"/,
    })),
  ];
}

function fileCases(): Case[] {
  return [
    ...[undefined, null, 5, {}].map((file) =>
      asked({ backing: 'file', path: file }, TYPE, /"options\.path".*string/),
    ),
    asked({ backing: 'file', path: '' }, VALUE, /"options\.path"/),
    asked({ backing: 'file', path: 'a\0b' }, VALUE, /"options\.path".*null bytes/),
    asked({ backing: 'file', path: '/nowhere/at/all' }, 'ENOENT', /open failed.*nowhere/),
    asked({ backing: 'file', path: '/' }, 'EISDIR', /regular file/),
    asked({ backing: 'file', path: '/dev/zero' }, 'ENODEV', /regular file.*zero/),
    asked({ backing: 'file', path: '/proc/self/status' }, VALUE, /without bytes/),
    ofFile(
      'an empty file',
      (file) => {
        writeFileSync(file, '');
      },
      {},
      VALUE,
      /without bytes/,
    ),
    ofFile(
      'a FIFO',
      (file) => {
        execFileSync('mkfifo', [file]);
      },
      {},
      'ENODEV',
      /regular file/,
    ),
    ofFile('a file', writeBytes, { mapping: 'shared' }, VALUE, /'private' for the backing file/),
    ofFile('a file', writeBytes, { hugePages: 'advise' }, VALUE, /is for the backing/),
    ofFile('a file', writeBytes, { bytes: 4 * 4096 + 1 }, RANGE, /"options\.bytes".*<= 12293/),
    ofFile('a file', writeBytes, { bytes: 4097, fileOffset: 12_288 }, RANGE, /"options\.bytes".*<= 5/),
    ofFile('a file', writeBytes, { bytes: 4 * 4096 + 1, shared: true }, RANGE, /"options\.bytes".*<= 12293/),
    ofFile('a file', writeBytes, { bytes: 0 }, RANGE, /"options\.bytes"/),
    ofFile('a file', writeBytes, { bytes: null }, TYPE, /"options\.bytes"/),
    ofFile('a file', writeBytes, { fileOffset: 1 }, RANGE, /"options\.fileOffset".*multiple/),
    ofFile('a file', writeBytes, { fileOffset: 16_384 }, RANGE, /"options\.fileOffset".*< 12293/),
    ofFile('a file', writeBytes, { fileOffset: -4096 }, RANGE, /"options\.fileOffset"/),
    ofFile('a file', writeBytes, { fileOffset: '0' }, TYPE, /"options\.fileOffset"/),
    ofFile('a file', writeBytes, { fileOffset: null }, TYPE, /"options\.fileOffset"/),
  ];
}

function attachCases(): Case[] {
  const notHandles: unknown[] = [
    ...[null, undefined, 5, 'key', {}, [], new Uint8Array(4), { key: '0'.repeat(32) }],
    { type: 'userfaultfd.Region' },
    { type: 'userfaultfd.Region', key: 5 },
    { type: 'userfaultfd.Region', key: null },
    { type: 'Region', key: '0'.repeat(32) },
    { type: 'userfaultfd.Region', key: '0'.repeat(32), buffer: new ArrayBuffer(4096) },
    { type: 'userfaultfd.Region', key: '0'.repeat(32), buffer: null },
  ];
  return [
    ...notHandles.map((handle): Case => ({
      title: inspect(handle),
      call: () => attach(handle),
      code: TYPE,
      message: /"handle/,
    })),
    { title: 'a Region', call: (f) => attach(f.unregistered), code: TYPE, message: /region\.handle/ },
    {
      title: 'one that was made up',
      call: () => attach({ type: 'userfaultfd.Region', key: '0'.repeat(32) }),
      code: HANDLE,
      message: /names no open region of this process/,
    },
    {
      title: 'one of a closed region',
      call: () => {
        const region = Region.allocate({ bytes: 4096 });
        const { handle } = region;
        region.close();
        return attach(handle);
      },
      code: HANDLE,
      message: /names no open region of this process/,
    },
  ];
}

/** For memory that cannot be had so. */
function ofRegion(use: (region: Region) => unknown, message: RegExp): Case[] {
  const on = (title: string, region: (f: Fixture) => Region, code: string, why?: RegExp): Case => ({
    title,
    call: (f) => use(region(f)),
    code,
    ...(why === undefined ? {} : { message: why }),
  });
  return [
    on('memory of V8', (f) => f.foreign, VALUE, message),
    on('a Wasm memory', (f) => f.grown, VALUE, message),
    on('a closed region', (f) => f.closedRegion, 'ERR_UFFD_CLOSED'),
    on('a detached region', (f) => f.detachedRegion, 'ERR_UFFD_DETACHED'),
  ];
}

/** By what is called. */
export const MEMORY_CASES: Record<string, Case[]> = {
  'Region.allocate() of a kind': kindCases(),
  'Region.allocate() of a file': fileCases(),
  'Region.attach()': attachCases(),
  'region.handle': ofRegion((region) => region.handle, /allocated by this package/),
  'region.alias()': [
    ...ofRegion((region) => region.alias(), /shared mapping/),
    {
      title: 'anonymous memory',
      call: (f) => f.unregistered.alias(),
      code: VALUE,
      message: /shared mapping of the backing 'memfd' or 'hugetlb'/,
    },
  ],
};
