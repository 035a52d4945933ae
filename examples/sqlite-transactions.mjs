// SQLite in WebAssembly: which pages of its heap does each transaction write?
//   npx userfaultfd watch examples/sqlite-transactions.mjs
// It knows nothing of userfaultfd. It only says when a transaction is over.

import { channel } from 'node:diagnostics_channel';
import sqlite from 'node-sqlite3-wasm';

const done = channel('userfaultfd:mark');
const db = new sqlite.Database(':memory:');

function transaction(name, work) {
  db.exec('BEGIN');
  work();
  db.exec('COMMIT');
  done.publish(name);
}

transaction('schema', () => {
  db.exec('CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT, balance INTEGER)');
});
transaction('500 accounts', () => {
  for (let id = 1; id <= 500; id++) db.run('INSERT INTO account VALUES (?, ?, 100)', [id, `owner ${id}`]);
});
for (let from = 1; from <= 20; from++) {
  transaction(`transfer ${from}`, () => {
    db.run('UPDATE account SET balance = balance - 5 WHERE id = ?', [from]);
    db.run('UPDATE account SET balance = balance + 5 WHERE id = ?', [501 - from]);
  });
}
transaction('interest', () => db.exec('UPDATE account SET balance = balance + balance / 10'));

const { total, richest } = db.get('SELECT sum(balance) AS total, max(balance) AS richest FROM account');
console.log(`500 accounts hold ${total}, the richest ${richest}`);
db.close();
