from rig_databases import cluster, migrated_database, migrated_file, sqlite_url, url

__all__ = ["cluster", "migrated_database", "migrated_file", "sqlite_url", "url"]
