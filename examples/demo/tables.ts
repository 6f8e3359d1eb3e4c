/** The tills' tables as types: what is published is checked against them. Decimals are text, exact. */
export interface TillTables {
  receipts: {
    id: number
    receipt_no: string
    series: string
    /** The till's own, 1, 2, 3 … in each series. */
    number: number
    business_date: string
    posted_at: string
    customer_no: string | null
    status: string
    net_amount: string
    vat_amount: string
    gross_amount: string
  }
  receipt_lines: {
    id: number
    receipt_id: number
    line_no: number
    item_no: string
    description: string
    quantity: string
    unit_price: string
    vat_rate: string
    net_amount: string
    vat_amount: string
    gross_amount: string
  }
  tender_lines: { id: number; receipt_id: number; line_no: number; tender: string; amount: string }
  plu_closings: { closing_no: number; business_date: string }
  plu_closing_ranges: { closing_no: number; series: string; first_no: number; last_no: number }
}

/** What head office publishes: its items, and which of them belong to which assortment. */
export interface HeadOfficeTables {
  items: { item_no: string; description: string; unit_price: string }
  assortments: { assortment: string; item_no: string }
}

/** A till's own schema; nothing in it is there for tillsync. */
export const TILL_SCHEMA = `
  CREATE TABLE IF NOT EXISTS receipts (
    id INTEGER PRIMARY KEY, receipt_no TEXT NOT NULL, series TEXT NOT NULL, number INTEGER NOT NULL, business_date TEXT NOT NULL,
    posted_at TEXT NOT NULL, customer_no TEXT, status TEXT NOT NULL, net_amount TEXT NOT NULL, vat_amount TEXT NOT NULL, gross_amount TEXT NOT NULL,
    UNIQUE (series, number)
  );
  CREATE TABLE IF NOT EXISTS receipt_lines (
    id INTEGER PRIMARY KEY, receipt_id INTEGER NOT NULL REFERENCES receipts, line_no INTEGER NOT NULL, item_no TEXT NOT NULL,
    description TEXT NOT NULL, quantity TEXT NOT NULL, unit_price TEXT NOT NULL, vat_rate TEXT NOT NULL,
    net_amount TEXT NOT NULL, vat_amount TEXT NOT NULL, gross_amount TEXT NOT NULL
  );
  CREATE INDEX IF NOT EXISTS receipt_lines_of_receipt ON receipt_lines (receipt_id);
  CREATE TABLE IF NOT EXISTS tender_lines (
    id INTEGER PRIMARY KEY, receipt_id INTEGER NOT NULL REFERENCES receipts, line_no INTEGER NOT NULL, tender TEXT NOT NULL, amount TEXT NOT NULL
  );
  CREATE INDEX IF NOT EXISTS tender_lines_of_receipt ON tender_lines (receipt_id);
  CREATE TABLE IF NOT EXISTS plu_closings (closing_no INTEGER PRIMARY KEY, business_date TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS plu_closing_ranges (
    closing_no INTEGER REFERENCES plu_closings, series TEXT, first_no INTEGER NOT NULL, last_no INTEGER NOT NULL, PRIMARY KEY (closing_no, series)
  );
  CREATE TABLE IF NOT EXISTS items (item_no TEXT PRIMARY KEY, description TEXT NOT NULL, unit_price TEXT NOT NULL);
`

/** Head office's own items, and its copies of the tills' tables: the ids of two tills are the same numbers, so location and register belong to the key. */
export const CENTRAL_SCHEMA = `
  CREATE TABLE items (item_no text PRIMARY KEY, description text NOT NULL, unit_price numeric NOT NULL);
  CREATE TABLE assortments (assortment text, item_no text REFERENCES items, PRIMARY KEY (assortment, item_no));
  CREATE TABLE receipts (
    location text, register text, id bigint, receipt_no text NOT NULL, series text NOT NULL, number bigint NOT NULL, business_date date NOT NULL,
    posted_at timestamp NOT NULL, customer_no text, status text NOT NULL,
    net_amount numeric NOT NULL, vat_amount numeric NOT NULL, gross_amount numeric NOT NULL,
    PRIMARY KEY (location, register, id)
  );
  CREATE TABLE receipt_lines (
    location text, register text, id bigint, receipt_id bigint NOT NULL, line_no integer NOT NULL, item_no text NOT NULL,
    description text NOT NULL, quantity numeric NOT NULL, unit_price numeric NOT NULL, vat_rate numeric NOT NULL,
    net_amount numeric NOT NULL, vat_amount numeric NOT NULL, gross_amount numeric NOT NULL,
    PRIMARY KEY (location, register, id),
    FOREIGN KEY (location, register, receipt_id) REFERENCES receipts (location, register, id)
  );
  CREATE INDEX ON receipt_lines (location, register, receipt_id);
  CREATE TABLE tender_lines (
    location text, register text, id bigint, receipt_id bigint NOT NULL, line_no integer NOT NULL, tender text NOT NULL, amount numeric NOT NULL,
    PRIMARY KEY (location, register, id),
    FOREIGN KEY (location, register, receipt_id) REFERENCES receipts (location, register, id)
  );
  CREATE INDEX ON tender_lines (location, register, receipt_id);
`
