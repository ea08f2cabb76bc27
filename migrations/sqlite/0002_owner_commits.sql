-- The number of the owner's last commit; each names the one that must have come before it. So a commit whose answer was
-- lost is not stored twice, also when it moves no mark.
ALTER TABLE runs ADD COLUMN owner_commits INTEGER NOT NULL DEFAULT 0;
