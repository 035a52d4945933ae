// The test body of every engine on a kernel that has neither wp-async nor WP_UNPOPULATED nor PAGEMAP_SCAN:
// they are not negotiated, or refused, in this process.

import { everythingHolds } from './support/every-engine.js';
import { OLD_KERNELS } from './scenarios/wp-sync.js';

OLD_KERNELS['Linux 6.3']!();
everythingHolds('wp-sync');
