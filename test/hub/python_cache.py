"""What Python's huggingface_hub finds or downloads: prints one JSON object. Usage: python_cache.py offline|online."""
import json
import sys

from huggingface_hub import hf_hub_download, scan_cache_dir, snapshot_download

NAMES = ["config.json", "model.safetensors", "tokenizer.json"]
offline = sys.argv[1] == "offline"
path = snapshot_download("acme/tiny", local_files_only=offline, allow_patterns=None if offline else NAMES)
files = {name: hf_hub_download("acme/tiny", name, local_files_only=offline) for name in NAMES}
cache = scan_cache_dir()
repos = [
    {"id": repo.repo_id, "bytes": repo.size_on_disk, "refs": sorted(repo.refs), "commits": [r.commit_hash for r in repo.revisions]}
    for repo in cache.repos
]
print(json.dumps({"path": path, "files": files, "repos": repos, "warnings": [str(w) for w in cache.warnings]}))
