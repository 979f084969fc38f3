"""Models written as users of each framework write them: classes with a ``forward`` of their own.

Every file is one that ``lbi-export --arch FILE.py:function`` executes; it imports its framework at the top.
"""
