"""What operators and packagers use beside the program itself."""
