"""Uploads a folder with Python's huggingface_hub, which reads HF_ENDPOINT and HF_TOKEN. Usage: python_push.py FOLDER REPO."""
import sys

from huggingface_hub import HfApi

api = HfApi()
api.create_repo(sys.argv[2], exist_ok=True)
api.upload_folder(repo_id=sys.argv[2], folder_path=sys.argv[1], commit_message="by Python")
