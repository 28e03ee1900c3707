"""`python -m tests.documents` writes what the documents have from the code."""

from tests.documents.generated import FILES

if __name__ == "__main__":
    for path, make in FILES.items():
        path.write_text(make(), encoding="utf-8")
        print(path.name)
