// What an ordinary user is shown: everything that needs no privilege.

import type { DirtyEngine } from '../../lib/index.js';

/** `wp-sync` serves faults inside system calls. */
export const ENGINES: readonly DirtyEngine[] =
  process.getuid!() === 0 ? ['wp-async', 'wp-sync', 'compare'] : ['wp-async', 'compare'];
