// Loaded before the command: a place where every way of opening a userfaultfd is refused.

import { testing } from '../support/testing.js';

const EPERM = 1;
if (testing().refuseUserfaultfd(EPERM) !== 0) throw new Error('the filter could not be installed');
