import assert from 'node:assert/strict';
import test from 'node:test';
import { Region } from '../lib/index.js';
test('it runs', () => { using r = Region.allocate({ bytes: 1 }); assert.equal(r.byteLength, r.pageSize); });
