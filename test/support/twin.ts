import type { Database } from 'better-sqlite3'

/** A POS application's tables: receipts with lines are published, the drawer is not. */
export const HOST_TABLES = `
  CREATE TABLE receipts (id INTEGER PRIMARY KEY, receipt_no TEXT NOT NULL UNIQUE, status TEXT NOT NULL DEFAULT 'posted', total INTEGER CHECK (total < 1000000));
  CREATE TABLE receipt_lines (id INTEGER PRIMARY KEY, receipt_id INTEGER NOT NULL REFERENCES receipts ON DELETE CASCADE, line_no INTEGER NOT NULL, item_no TEXT,
    UNIQUE (receipt_id, line_no));
  CREATE TABLE drawer (id INTEGER PRIMARY KEY, opened_at TEXT NOT NULL);
  INSERT INTO receipts (id, receipt_no, total) VALUES (1, 'R-1', 10), (2, 'R-2', 20), (3, 'R-3', 30), (4, 'R-4', 40);
  INSERT INTO receipt_lines VALUES (1, 1, 1, 'A'), (2, 2, 1, 'B'), (3, 3, 1, 'C'), (4, 4, 1, 'D'), (5, 4, 2, 'E')`
export const HOST_PUBLISH = { receipts: { existing: 'all' }, receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } } } as const

/** What a host does to roots, to parts and beside them; some of it breaks the host's own constraints. One array is one after another. */
export const HOST_STATEMENTS: Readonly<Record<string, readonly string[]>> = {
  'an insert': ["INSERT INTO receipts (receipt_no, total) VALUES ('R-10', 1)"],
  'an insert of many rows': ["INSERT INTO receipts (id, receipt_no) VALUES (20, 'R-20'), (21, 'R-21'), (22, 'R-22')"],
  'an insert from a select': ["INSERT INTO receipts (receipt_no, total) SELECT receipt_no || 'x', total FROM receipts WHERE id < 3"],
  'an insert that returns': ["INSERT INTO receipts (receipt_no, total) VALUES ('R-30', 3), ('R-31', 4) RETURNING id, receipt_no"],
  'an insert that ignores': ["INSERT OR IGNORE INTO receipts (receipt_no) VALUES ('R-1'), ('R-40')"],
  'an insert that fails midway': ["INSERT INTO receipts (id, receipt_no) VALUES (50, 'R-50'), (51, 'R-1')"],
  'an upsert': [
    "INSERT INTO receipts (id, receipt_no, total) VALUES (1, 'R-1', 11), (60, 'R-60', 6) ON CONFLICT (id) DO UPDATE SET total = excluded.total",
  ],
  'an update': ['UPDATE receipts SET total = total + 1 WHERE id <= 2'],
  'an update of nothing': ['UPDATE receipts SET total = 1 WHERE id = 999'],
  'an update that returns': ['UPDATE receipts SET total = 77 WHERE id = 2 RETURNING id, total'],
  'an update of a key': ['UPDATE receipts SET id = 70 WHERE id = 20'],
  'an update that breaks a constraint': ['UPDATE receipts SET total = 1000000'],
  'a replace': ["REPLACE INTO receipts (id, receipt_no, total) VALUES (80, 'R-21', 8)"],
  'an update that replaces': ["UPDATE OR REPLACE receipts SET receipt_no = 'R-22' WHERE id = 80"],
  'a delete with its lines': ['DELETE FROM receipts WHERE id = 3'],
  'a delete of nothing': ['DELETE FROM receipts WHERE id = 999'],
  'lines inserted': ["INSERT INTO receipt_lines (receipt_id, line_no, item_no) VALUES (1, 2, 'F'), (2, 2, 'G')"],
  'a line that breaks a foreign key': ['INSERT INTO receipt_lines (receipt_id, line_no) VALUES (12345, 1)'],
  'a line changed': ["UPDATE receipt_lines SET item_no = 'H' WHERE id = 1"],
  'a line moved': ['UPDATE receipt_lines SET receipt_id = 2, line_no = 3 WHERE id = 1'],
  'a line replaced': ["REPLACE INTO receipt_lines (receipt_id, line_no, item_no) VALUES (2, 3, 'I')"],
  'a line taken by its key': ["INSERT OR REPLACE INTO receipt_lines VALUES (4, 1, 9, 'J')"],
  'lines deleted': ['DELETE FROM receipt_lines WHERE receipt_id = 1 RETURNING id'],
  'a sale in a transaction with the drawer': [
    'BEGIN IMMEDIATE',
    "INSERT INTO drawer (opened_at) VALUES ('now')",
    "INSERT INTO receipts (id, receipt_no) VALUES (90, 'R-90')",
    "INSERT INTO receipt_lines (receipt_id, line_no, item_no) VALUES (2, 90, 'K')",
    "UPDATE drawer SET opened_at = 'later'",
    'COMMIT',
  ],
  'a savepoint taken back': [
    'BEGIN',
    "INSERT INTO drawer (opened_at) VALUES ('then')",
    'SAVEPOINT s',
    'DELETE FROM receipts WHERE id = 2',
    'ROLLBACK TO s',
    'UPDATE receipts SET total = 5 WHERE id = 2',
    'COMMIT',
  ],
  'a transaction taken back': ['BEGIN', 'DELETE FROM receipts', 'ROLLBACK'],
  'beside them': ["INSERT INTO drawer (opened_at) VALUES ('again') RETURNING id", 'DELETE FROM drawer WHERE id = 1', 'SELECT count(*) FROM receipts'],
}

/** What the host gets from a statement: rows, counts, or an error with its code. */
export function outcomeOf(db: Database, sql: string): unknown {
  try {
    const statement = db.prepare(sql)
    if (statement.reader) return statement.all()
    const { changes, lastInsertRowid } = statement.run()
    return /^(INSERT|REPLACE)/.test(sql) ? { changes, lastInsertRowid } : { changes }
  } catch (error) {
    return { code: (error as { code?: string }).code, message: (error as Error).message }
  }
}

/** All that stands in the host's own tables. */
export function contentsOf(db: Database): unknown {
  const read = (sql: string): unknown => db.prepare(sql).all()
  return [read('SELECT * FROM receipts ORDER BY id'), read('SELECT * FROM receipt_lines ORDER BY id'), read('SELECT * FROM drawer ORDER BY id')]
}
