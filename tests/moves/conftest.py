from rig_databases import cluster, url

__all__ = ["cluster", "url"]
