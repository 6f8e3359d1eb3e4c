import type { AnyTables, PublishRules } from '../../src/index.ts'
import type { Random } from './random.ts'

/** All that makes the triggers of SQLite complicated. */
export const TABLES = `
  CREATE TABLE receipts (
    id INTEGER PRIMARY KEY, receipt_no TEXT COLLATE NOCASE UNIQUE ON CONFLICT REPLACE, slot TEXT, status TEXT NOT NULL DEFAULT 'posted',
    code TEXT AS (receipt_no || '/' || status) STORED, short TEXT AS (substr(receipt_no, 1, 3)) VIRTUAL);
  CREATE UNIQUE INDEX open_slot ON receipts (slot COLLATE RTRIM) WHERE status = 'open (it''s)' AND slot IS NOT NULL;
  CREATE UNIQUE INDEX receipts_code ON receipts (code, slot);
  CREATE TABLE receipt_lines (
    receipt_id INTEGER NOT NULL REFERENCES receipts ON DELETE CASCADE ON UPDATE CASCADE, line_no INTEGER NOT NULL, item_no TEXT COLLATE NOCASE, serial TEXT,
    PRIMARY KEY (receipt_id, line_no)) WITHOUT ROWID;
  CREATE UNIQUE INDEX serials ON receipt_lines (serial COLLATE NOCASE) WHERE serial IS NOT NULL;
  CREATE TABLE tender_lines (id INTEGER PRIMARY KEY AUTOINCREMENT, receipt_no TEXT COLLATE NOCASE, amount REAL, UNIQUE (receipt_no, amount) ON CONFLICT REPLACE) STRICT;
  CREATE TABLE "price ""lists" (name TEXT COLLATE NOCASE NOT NULL, "valid from" TEXT NOT NULL, price ANY, PRIMARY KEY (name, "valid from")) WITHOUT ROWID, STRICT;
  CREATE TABLE shelves (place BLOB NOT NULL PRIMARY KEY, label TEXT)`
export const PUBLISH: PublishRules<AnyTables> = {
  receipts: {},
  receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } },
  tender_lines: { partOf: { receipts: { receipt_no: 'receipt_no' } } },
  'price "lists': {},
  shelves: {},
}

export function statement(random: Random): string {
  const [a, b] = [random.int(1, 8), random.int(1, 8)]
  const or = random.pick(['', ' OR REPLACE', ' OR IGNORE', ' OR FAIL', ' OR ABORT', ' OR ROLLBACK'])
  const status = random.pick(['posted', `open (it''s)`])
  const slot = random.pick(['NULL', `'s'`, `'s '`, `'t'`])
  return random.pick([
    `INSERT${or} INTO receipts (id, receipt_no, slot, status) VALUES (${a}, 'r-${b}', ${slot}, '${status}')`,
    `INSERT${or} INTO receipts (id, receipt_no) VALUES (${a}, 'R-${b}'), (${a + 4}, 'x-${a}')`,
    `REPLACE INTO receipts (receipt_no, slot, status) VALUES ('R-${a}', ${slot}, '${status}') RETURNING receipt_no, code`,
    `INSERT INTO receipts (id, receipt_no, slot) VALUES (${a}, 'R-${a}', ${slot}) ON CONFLICT (id) DO UPDATE SET slot = excluded.slot, receipt_no = 'up-${b}' WHERE id <> ${b}`,
    `INSERT INTO receipts (id, receipt_no) VALUES (${a}, 'R-${b}') ON CONFLICT DO NOTHING`,
    `UPDATE${or} receipts SET receipt_no = 'R-${b}' WHERE id = ${a}`,
    `UPDATE${or} receipts SET status = '${status}', slot = ${slot} WHERE id >= ${a} RETURNING id`,
    `UPDATE${or} receipts SET id = ${b} WHERE id = ${a}`,
    `UPDATE receipts SET id = id + 100 WHERE id < ${a}`,
    `DELETE FROM receipts WHERE id ${random.pick(['=', '>'])} ${a} RETURNING receipt_no`,
    `INSERT${or} INTO receipt_lines VALUES (${a}, ${b}, 'i', ${random.pick(['NULL', `'sn${b}'`, `'SN${a}'`])})`,
    `INSERT INTO receipt_lines SELECT id, ${b}, 'all', NULL FROM receipts WHERE true ON CONFLICT (receipt_id, line_no) DO UPDATE SET item_no = 'again'`,
    `UPDATE${or} receipt_lines SET receipt_id = ${b} WHERE receipt_id = ${a}`,
    `UPDATE${or} receipt_lines SET line_no = line_no + 1, serial = 'sn' || line_no WHERE receipt_id = ${a}`,
    `DELETE FROM receipt_lines WHERE line_no = ${a}`,
    `INSERT${or} INTO tender_lines (receipt_no, amount) VALUES ('R-${a}', ${b}), ('r-${b}', 1.5) RETURNING id`,
    `UPDATE${or} tender_lines SET receipt_no = 'R-${a}', amount = 2 WHERE id % 3 = ${a % 3}`,
    `DELETE FROM tender_lines WHERE amount = ${a}`,
    `INSERT${or} INTO "price ""lists" VALUES ('${random.pick(['a', 'A', 'b'])}', '2026-0${a}', ${random.pick(['1', `x'00ff'`, `'t'`, '1.5'])})`,
    `UPDATE${or} "price ""lists" SET name = upper(name) WHERE "valid from" > '2026-0${a}'`,
    `DELETE FROM "price ""lists" WHERE name = '${random.pick(['A', 'b'])}'`,
    `INSERT${or} INTO shelves VALUES (${a % 3}${random.pick(['', '.0'])}, 'label ${b}')`,
    `UPDATE${or} shelves SET place = ${a % 3}${random.pick(['', '.0'])} WHERE place = ${b % 3}`,
    ...(random.chance(0.05) ? ['DELETE FROM receipts', 'DELETE FROM receipt_lines'] : []),
  ])
}

/** The records that head office must have, by table: lines whose receipt there is, and all else. */
export const PUBLISHED = [
  'SELECT * FROM receipts',
  'SELECT * FROM receipt_lines',
  'SELECT t.* FROM tender_lines t JOIN receipts r USING (receipt_no)',
  'SELECT * FROM "price ""lists"',
  'SELECT * FROM shelves',
]
