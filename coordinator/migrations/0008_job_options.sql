-- What besides its operation was asked of a job and still matters when the coordinator starts anew:
-- JSON, so that what is added later needs no column.
alter table jobs add column options text not null default '{}';
